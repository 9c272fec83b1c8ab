"""Room on the disk for a checkpoint: looked at before it is written, and an error that says what is missing."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from dl_lib.checkpoint.errors import CheckpointError, NoSpaceError

__all__ = ["check_space", "required_bytes", "writing_error"]

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk is full, or a quota or a limit of file sizes is reached

_BYTES_PER_TENSOR = 512  # of names, headers and directory entries in the file; 280 to 460 were measured
_MARGIN_BYTES = 2**20  # for everything that is no tensor, and for the small files beside the checkpoint
_MIB = 2**20


def required_bytes(content: Any) -> int:
    """Room that `torch.save` of some content needs, rather too much than too little.

    A storage counts once and whole, however many tensors look at it, as that is how torch writes it.

    Args:
        content: nested dicts, lists and tuples of tensors, numpy arrays and small values.
    """
    storages: dict[tuple[str, int], int] = {}
    others, count, left = 0, 0, [content]
    while left:
        value = left.pop()
        if isinstance(value, Mapping):
            left.extend(value.values())
        elif isinstance(value, (list, tuple)):
            left.extend(value)
        elif isinstance(value, Tensor):
            storage = value.untyped_storage()
            storages[str(value.device), storage.data_ptr()] = storage.nbytes()
            count += 1
        elif isinstance(value, np.ndarray):
            others += value.nbytes
    return sum(storages.values()) + others + count * _BYTES_PER_TENSOR + _MARGIN_BYTES


def check_space(path: str, *, needed_bytes: int) -> None:
    """Makes sure that a file will fit beside what is there, the file included that it will replace.

    Raises:
        NoSpaceError: if it will not. What a quota leaves is not known before it is reached.
    """
    disk = shutil.disk_usage(os.path.dirname(path) or os.curdir)
    if disk.total and disk.free < needed_bytes:  # some network file systems do not tell, and say 0
        raise _no_space(path, needed_bytes=needed_bytes, why="there is not enough room on the disk")


def writing_error(error: OSError, *, path: str, needed_bytes: int = _MARGIN_BYTES) -> CheckpointError:
    """What the user is told when the system refused to write a checkpoint, or a small file beside it."""
    if error.errno in NO_SPACE:
        why = f"the room on the disk was used up while the file was written ({error.strerror})"
        return _no_space(path, needed_bytes=needed_bytes, why=why)
    return CheckpointError(
        f"the checkpoint could not be written: {error.strerror or error}. Older checkpoints stay as they are. Mend "
        f"that, or write to another folder. Received: path={path!r}"
    )


def _no_space(path: str, *, needed_bytes: int, why: str) -> NoSpaceError:
    folder = os.path.dirname(os.path.abspath(path))
    while not os.path.isdir(folder):  # there was not even room for it
        folder = os.path.dirname(folder)
    free_bytes = shutil.disk_usage(folder).free
    return NoSpaceError(
        f"{why}; no half of the new checkpoint is left, and the older ones stay as they are. Make room, or "
        f"write to another disk. A training keeps fewer checkpoints with SOLVER.CHECKPOINT_KEEP_LAST, and goes on with "
        f"--resume. Received: path={path!r}, needed about {needed_bytes / _MIB:,.1f} MiB, "
        f"free {free_bytes / _MIB:,.1f} MiB"
    )
