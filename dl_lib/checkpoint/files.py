"""Checkpoint files: read without executing anything in them, written whole or not at all."""

from __future__ import annotations

import errno
import os
import pickle
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import IO, Any, cast

import numpy as np
import torch
from iopath.common.file_io import HTTPURLHandler, PathManager
from torch import Tensor

from dl_lib.checkpoint.checksums import HashingFile, checksum_path, verify_checksum, write_checksum
from dl_lib.checkpoint.errors import CheckpointError, UnreadableCheckpointError
from dl_lib.checkpoint.space import check_space, required_bytes, writing_error
from dl_lib.utils.files import flush_to_disk, open_atomically, remove_durably

__all__ = ["make_path_manager", "read_checkpoint", "save_checkpoint"]

SAFETENSORS = ".safetensors"  # https://huggingface.co/docs/safetensors: tensors by their names and nothing else
PARALLEL_PREFIX = "module."  # what DistributedDataParallel and DataParallel put before every key


def make_path_manager() -> PathManager:
    """For reading: local paths and http(s) addresses (downloaded once, then cached)."""
    manager = PathManager()
    manager.register_handler(HTTPURLHandler())
    return manager


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads a local checkpoint file onto the CPU; nothing in the file is executed.

    Args:
        path: a file of `torch.save` that holds `{"model": state dict, ...}`, `{"state_dict": state dict, ...}` or a
            bare state dict. Beside tensors it may hold plain Python values and numpy's numbers and arrays. Or a
            state dict as `.safetensors`.

    Returns:
        What the file holds, the weights under "model" as a dict of tensors, without a parallel wrapper's prefix.

    Raises:
        CheckpointError: if the file is missing, damaged, not the one that the checksum beside it was written for, or
            holds no weights or anything that would have to be executed.
        UnreadableCheckpointError: if the system refuses to read it.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise CheckpointError(f"there is no such checkpoint file. Received: path={path!r}")
    try:
        with open(path, "rb") as file:  # once: what is loaded is what was compared
            verify_checksum(file, path)
            return _with_weights(_load(file, path), path=path)
    except OSError as error:  # the disk's or the network's fault, not the file's
        raise UnreadableCheckpointError(
            f"the file cannot be read: {error.strerror or error}. Mend that, or move the file away to do without it. "
            f"Received: path={path!r}"
        ) from error


def save_checkpoint(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Writes a local file that `read_checkpoint` can read, atomically, and its checksum beside it.

    A process may be killed at any moment, and the machine may lose its power. The steps, each of them on the disk
    before the next one begins, are: the content under another name; away with the checksum of the file that is
    replaced, if there is one; the new name; the new checksum. Therefore

    - what bears the name is a whole file at all times, the old one or the new one;
    - a checksum never stands beside a file that it was not made for, so a difference always means damage;
    - between two of the steps the file stands there without a checksum. It is valid if it can be loaded.

    The other order, checksum first, would make the old file look damaged as long as the new one is not there.

    Raises:
        CheckpointError: if something in `content` could not be read again, or the system refuses to write. No new
            file is left, an older one stays.
        NoSpaceError: if there is no room, which is looked at before and noticed on the way.
    """
    path = os.fspath(path)
    needed_bytes = required_bytes(content)
    try:
        check_space(path, needed_bytes=needed_bytes)
        with open_atomically(path) as file:
            hashing = HashingFile(file)
            _serialise(content, hashing)
            flush_to_disk(file)
            _refuse_unsafe(file.name, keys=content)
            remove_durably(checksum_path(path))
        write_checksum(path, hashing.hexdigest())
    except OSError as error:
        raise writing_error(error, path=path, needed_bytes=needed_bytes) from error


def _load(file: IO[bytes], path: str) -> Any:
    try:
        if path.endswith(SAFETENSORS):
            from safetensors.torch import load  # here: machines that see no such file do without the library

            return load(file.read())
        with torch.serialization.safe_globals(_numpy_values()), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise anything, from EOFError to a seek before their start (EINVAL)
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise _refusal(error, path=path) from None  # torch's own text advises to execute the file


def _serialise(content: Mapping[str, Any], file: HashingFile) -> None:
    try:
        torch.save(dict(content), cast(IO[bytes], file))  # it writes and flushes, no more
    except Exception:
        if file.failure is not None:  # torch hides it behind a complaint about the archive's positions
            raise file.failure from None
        raise


def _refuse_unsafe(path: str, *, keys: Iterable[str]) -> None:
    with torch.serialization.safe_globals(_numpy_values()):
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    if unsafe:
        raise CheckpointError(
            f"a checkpoint holds tensors, plain Python values and numpy's numbers and arrays: anything else could "
            f"not be read again, because reading executes nothing. Save such objects as text or as plain values. "
            f"Received: objects of {', '.join(sorted(unsafe))} under one of the keys {sorted(keys)}"
        )


def _numpy_values() -> list[Any]:
    """Constructors of numpy numbers and arrays, under the names that numpy 1 and 2 pickle them by."""
    makers: tuple[Any, Any] = np.float64(0).__reduce__()[0], np.zeros(0).__reduce__()[0]
    kinds = [type(np.dtype(code)) for code in "?bBhHiIlLqQefdFD"]
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    named = [(make, f"{module}.{make.__name__}") for module in modules for make in makers]
    return [np.ndarray, np.dtype, *kinds, *named]


def _refusal(error: Exception, *, path: str) -> CheckpointError:
    code = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
    if code:
        return CheckpointError(
            f"the file asks for {code[1]} to be executed on loading. Nothing was executed. A checkpoint holds tensors "
            f"and plain values only; if you trust where this one comes from, open it there with "
            f"torch.load(path, weights_only=False) and save what counts with torch.save({{'model': weights}}, "
            f"new_path). Received: path={path!r}"
        )
    size, kind = os.path.getsize(path), "safetensors" if path.endswith(SAFETENSORS) else "torch.save"
    reason = f" ({type(error).__name__}: {error})" if isinstance(error, RuntimeError) else ""
    return CheckpointError(
        f"the file is empty, cut off, otherwise damaged, or no checkpoint of {kind}; nothing in it was executed. "
        f"Fetch or save it again, or name another one. Received: path={path!r}, {size} bytes{reason}"
    )


def _with_weights(content: Any, *, path: str) -> dict[str, Any]:
    parts = dict(content) if isinstance(content, Mapping) else {}
    name = next((name for name in ("model", "state_dict") if isinstance(parts.get(name), Mapping)), None)
    weights = parts.pop(name) if name else parts
    others = [key for key, value in weights.items() if not isinstance(value, Tensor | np.ndarray)]
    if others or not weights:
        held = f"keys {others[:5]} that are no tensors" if others else f"a {type(content).__name__} without tensors"
        raise CheckpointError(
            f"no state dict in this file: expected {{'model': state dict}}, {{'state_dict': state dict}} or a state "
            f"dict itself, names to tensors. Received: path={path!r} with {held}"
        )
    return {**(parts if name else {}), "model": _plain(weights)}


def _plain(weights: Mapping[str, Any]) -> dict[str, Tensor]:
    prefixed = all(str(key).startswith(PARALLEL_PREFIX) for key in weights)
    return {str(key)[len(PARALLEL_PREFIX) if prefixed else 0 :]: torch.as_tensor(v) for key, v in weights.items()}
