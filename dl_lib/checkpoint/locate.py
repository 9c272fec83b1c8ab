"""Weight files by path or address (`MODEL.WEIGHTS`)."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from urllib.parse import urlsplit

from iopath.common.download import download
from iopath.common.file_io import file_lock, g_pathmgr, get_cache_dir
from torch.hub import HASH_REGEX

from dl_lib.checkpoint.checksums import sha256_of
from dl_lib.checkpoint.errors import CheckpointError
from dl_lib.config.paths import expand_path
from dl_lib.utils.names import joined, nearest_names
from dl_lib.utils.progress import progress_bar_enabled
from dl_lib.utils.run_files import CHECKPOINT_SUFFIX

__all__ = ["is_address", "local_weights"]

_CACHE_VARIABLE = "FVCORE_CACHE"  # as in iopath
_WEIGHT_SUFFIXES = (CHECKPOINT_SUFFIX, ".pt", ".ckpt", ".bin", ".safetensors")
_DOWNLOADED_SCHEMES = ("http://", "https://")
_WEB_PAGE = (b"<!doctype", b"<html", b"<?xml", b"<head")
_MIN_DIGITS = 8  # of a checksum in a file name, as in resnet18-5c106cde.pth; shorter ones are version numbers
_TIMEOUT_SECONDS = 60.0
_MAX_NAME_LENGTH = 100
_UNNAMED = f"weights{CHECKPOINT_SUFFIX}"  # local name of an address without a file name
_MAX_LISTED = 10
_START_BYTES = 256

_log = logging.getLogger(__name__)


def local_weights(path: str) -> str:
    """Return the path of a weight file, or of the cached copy of an address, which is downloaded at first use.

    Addresses other than http(s) are resolved by the handlers of iopath's `g_pathmgr`.

    Raises:
        CheckpointError: If there is no such file, it is a folder, or it cannot be downloaded.
    """
    if is_address(path):
        return _cached_copy(path) if path.startswith(_DOWNLOADED_SCHEMES) else _path_from_handler(path)
    if os.path.isdir(path):
        raise CheckpointError(f"weights must be a file, not a folder; {_weight_files(path)}. Received: path={path!r}")
    if os.path.isfile(path):
        return path
    if os.path.exists(path):
        raise CheckpointError(f"weights must be a file, not a pipe, device or socket. Received: path={path!r}")
    folder, name = os.path.split(path)
    folder = folder or os.curdir
    found = nearest_names(name, _weight_names(folder)) if os.path.isdir(folder) else "the folder does not exist either"
    raise CheckpointError(f"no such checkpoint file; {found}. Received: path={path!r}")


def is_address(path: str) -> bool:
    """Return whether a path has a scheme, as in `https://…`."""
    return "://" in path


def _weight_names(folder: str) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.lower().endswith(_WEIGHT_SUFFIXES))


def _weight_files(folder: str) -> str:
    names = _weight_names(folder)
    return f"name one of its files: {joined(names, limit=_MAX_LISTED)}" if names else "it contains no weights"


def _path_from_handler(address: str) -> str:
    try:
        path = str(g_pathmgr.get_local_path(address))
    except Exception as error:  # of a handler of the user or of a cloud service
        raise _download_error(address, reason=error) from error
    if not os.path.isfile(path):
        raise _download_error(
            address, reason=f"other addresses than {', '.join(_DOWNLOADED_SCHEMES)} require a PathHandler of iopath"
        )
    return path


def _cached_copy(address: str) -> str:
    """Download a file unless it is cached; one process at a time, the others wait and use the cached file."""
    given = os.environ.get(_CACHE_VARIABLE)
    cache = expand_path(given, key=_CACHE_VARIABLE) if given else None
    try:
        name = os.path.basename(urlsplit(address).path)[-_MAX_NAME_LENGTH:]
        # Equal file names of different addresses are different files.
        folder = os.path.join(get_cache_dir(cache), "weights", hashlib.sha256(address.encode()).hexdigest()[:16])
        path = os.path.join(folder, name if name.strip(os.curdir) else _UNNAMED)
        with file_lock(path), _bounded_download():
            if not os.path.isfile(path):
                _log.info("Downloading %s to %s", address, folder)
                download(address, folder, filename=os.path.basename(path), progress=progress_bar_enabled())
                _check_download(path, address=address)
    except CheckpointError:
        raise
    except (OSError, HTTPException, ValueError) as error:
        raise _download_error(address, reason=error) from error
    return path


def _check_download(path: str, *, address: str) -> None:
    """Check the first bytes and, if the file name ends in one, the SHA-256 of a file; remove it if it is wrong."""
    with open(path, "rb") as file:
        start = file.read(_START_BYTES).lstrip().lower()
        file.seek(0)
        digest = sha256_of(file)
    checksum = HASH_REGEX.search(os.path.basename(path))
    expected = checksum[1] if checksum and len(checksum[1]) >= _MIN_DIGITS else ""
    if start.startswith(_WEB_PAGE):
        reason = "the server sent a web page; use the address of the file itself"
    elif not digest.startswith(expected):
        reason = f"the SHA-256 {digest} does not begin with the {expected} in the file name"
    else:
        return
    os.remove(path)
    raise _download_error(address, reason=reason)


@contextmanager
def _bounded_download() -> Iterator[None]:
    """Limit the time without an answer, and leave messages about failures to the error."""
    logger, before = logging.getLogger("iopath"), socket.getdefaulttimeout()
    level = logger.level
    socket.setdefaulttimeout(_TIMEOUT_SECONDS)
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
        logger.setLevel(level)


def _download_error(address: str, *, reason: object) -> CheckpointError:
    text = " ".join(str(reason).split())  # that of a server may have several lines
    return CheckpointError(
        f"the weights could not be downloaded: {text}. Check the address and the network, or download the file and "
        f"give its path. Received: path={address!r}"
    )
