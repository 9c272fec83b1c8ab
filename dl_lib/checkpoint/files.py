"""Checkpoint files: loaded without executing code, written atomically with a checksum."""

from __future__ import annotations

import errno
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterable, Mapping
from typing import IO, Any, cast

import numpy as np
import torch

from dl_lib.checkpoint.checksums import HashingFile, checksum_path, verify_checksum, write_checksum
from dl_lib.checkpoint.errors import CheckpointError, UnreadableCheckpointError, write_error
from dl_lib.checkpoint.state_dict import state_dict_of
from dl_lib.utils.files import flush_to_disk, open_atomically, open_regular, remove_durably

__all__ = ["read_checkpoint", "save_checkpoint"]

SAFETENSORS = ".safetensors"  # https://huggingface.co/docs/safetensors: named tensors only

_ZIP_START, _PICKLE_START = b"PK", b"\x80"  # formats of torch.save, the present and the legacy one


def read_checkpoint(path: str | os.PathLike[str], *, requires_weights: bool = True) -> dict[str, Any]:
    """Read a local checkpoint file onto the CPU without executing code from it.

    Args:
        path: File written by `torch.save` that holds `{"model": state_dict, ...}`, `{"state_dict": state_dict, ...}`
            or a bare state dict, or a state dict in `.safetensors` format. Besides tensors, a file may hold plain
            Python values and numpy scalars and arrays.
        requires_weights: Whether a file must contain weights; others are returned as they are.

    Returns:
        Content of the file, with the weights under "model" as a dict of tensors, see `state_dict_of`.

    Raises:
        CheckpointError: If the file is missing or damaged, does not match its checksum, contains no weights, or
            contains objects that require code execution.
        UnreadableCheckpointError: If the operating system refuses to read the file.
    """
    path = os.fspath(path)
    try:
        with open_regular(path) as file:  # opened once, so the loaded content is the verified content
            _check_format(file, path)
            verify_checksum(file, path)
            content = _load(file, path)
            is_other = isinstance(content, dict) and not requires_weights
            return content if is_other else _with_weights(content, path=path)
    except FileNotFoundError:
        raise CheckpointError(f"no such checkpoint file. Received: path={path!r}") from None
    except OSError as error:  # a fault of the disk or network, not of the file
        raise UnreadableCheckpointError(
            f"the file cannot be read: {error.strerror or error}. Fix the cause, or move the file away to continue "
            f"without it. Received: path={error.filename or path!r}"
        ) from error


def save_checkpoint(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a local checkpoint file atomically, together with its checksum file.

    The write survives a killed process and a power failure at any point. Each step is flushed to disk before the
    next: (1) write the content to a temporary file, (2) remove the checksum file of the replaced checkpoint, (3)
    rename the temporary file, (4) write the new checksum file. Consequently:

    - `path` is a complete file at all times, either the old or the new one.
    - A checksum file never belongs to a different checkpoint, so a mismatch always means damage.
    - Between two steps the checkpoint has no checksum file; it is valid if it can be loaded.

    Writing the checksum first would make the old file appear damaged until the rename.

    Args:
        content: Values to save; `read_checkpoint` documents the supported types.
        path: File to write.

    Raises:
        CheckpointError: If `content` holds an object that could not be loaded again, or the write fails. Before step
            3, an existing file is kept; after it, `path` is the new file. The partial file is always removed.
        NoSpaceError: If the disk or a quota is full.
    """
    path = os.fspath(path)
    try:
        with open_atomically(path) as file:
            hashing = HashingFile(file)
            _serialize(content, hashing)
            flush_to_disk(file)
            _check_loadable(file.name, keys=content)
            remove_durably(checksum_path(path))
        write_checksum(path, hashing.hexdigest())
    except OSError as error:
        raise write_error(error, path=path) from error


def _check_format(file: IO[bytes], path: str) -> None:
    """Check the first and last bytes, so that no checksum of a large file without a checkpoint is computed."""
    start = file.read(8)
    if _is_safetensors(path):
        is_valid = 0 < int.from_bytes(start, "little") < os.path.getsize(path)  # length of the header
    else:
        is_valid = start.startswith(_PICKLE_START) or (start.startswith(_ZIP_START) and _has_zip_directory(file))
    if not is_valid:
        raise _load_error(ValueError(), path=path)
    file.seek(0)


def _has_zip_directory(file: IO[bytes]) -> bool:
    try:
        return zipfile.is_zipfile(file)
    except zipfile.BadZipFile:  # some damaged records raise instead
        return False


def _is_safetensors(path: str) -> bool:
    return path.lower().endswith(SAFETENSORS)


def _load(file: IO[bytes], path: str) -> Any:
    try:
        if _is_safetensors(path):
            from safetensors.torch import load_file  # lazy: only needed for this format

            return load_file(path)
        with torch.serialization.safe_globals(_numpy_globals()), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise various types, from EOFError to EINVAL for a negative seek
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise _load_error(error, path=path) from None  # torch's own message recommends weights_only=False


def _serialize(content: Mapping[str, Any], file: HashingFile) -> None:
    try:
        torch.save(dict(content), cast(IO[bytes], file))  # only calls write and flush
    except Exception:
        if file.failure is not None:  # torch replaces the OSError with an error about archive positions
            raise file.failure from None
        raise


def _check_loadable(path: str, *, keys: Iterable[str]) -> None:
    with torch.serialization.safe_globals(_numpy_globals()):
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    if unsafe:
        raise CheckpointError(
            f"checkpoints may hold tensors, plain Python values and numpy scalars and arrays; other objects could not "
            f"be loaded again, because loading executes no code. Save them as text or plain values. "
            f"Received: objects of {', '.join(sorted(unsafe))} under one of the keys {sorted(keys)}"
        )


def _numpy_globals() -> list[Any]:
    """Return the constructors of numpy scalars and arrays under the pickle names of numpy 1 and 2."""
    constructors: tuple[Any, Any] = np.float64(0).__reduce__()[0], np.zeros(0).__reduce__()[0]
    dtypes = [type(np.dtype(code)) for code in "?bBhHiIlLqQefdFD"]
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    named = [(make, f"{module}.{make.__name__}") for module in modules for make in constructors]
    return [np.ndarray, np.dtype, *dtypes, *named]


def _load_error(error: Exception, *, path: str) -> CheckpointError:
    code = re.search(r"GLOBAL (\S+)", str(error)) if isinstance(error, pickle.UnpicklingError) else None
    if code:
        return CheckpointError(
            f"loading this file would execute {code[1]}; nothing was executed. Checkpoints may hold only tensors and "
            f"plain values. If the source is trusted, convert the file there: torch.load(path, weights_only=False), "
            f"then torch.save({{'model': weights}}, new_path). Received: path={path!r}"
        )
    size, kind = os.path.getsize(path), "safetensors" if _is_safetensors(path) else "torch.save"
    reason = f" ({type(error).__name__}: {error})" if isinstance(error, RuntimeError) else ""
    return CheckpointError(
        f"the file is empty, truncated, damaged or not a {kind} checkpoint; nothing was executed. Copy, download or "
        f"save it again, or name another file. Received: path={path!r}, {size} bytes{reason}"
    )


def _with_weights(content: Any, *, path: str) -> dict[str, Any]:
    """Return the content with its weights under "model"."""
    values = dict(content) if isinstance(content, Mapping) else {}
    name = next((name for name in ("model", "state_dict") if isinstance(values.get(name), Mapping)), None)
    if name is None:
        return {"model": state_dict_of(content, path=path)}
    return {"model": state_dict_of(values.pop(name), path=path)} | values
