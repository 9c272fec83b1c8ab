"""SHA-256 checksum files of checkpoints: computed during the write, verified before loading.

`model_0000500.pth.sha256` holds one line in the format of `sha256sum`, so `sha256sum -c` verifies it by hand.
Format: https://www.gnu.org/software/coreutils/manual/html_node/md5sum-invocation.html
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import IO

from dl_lib.checkpoint.errors import CheckpointError
from dl_lib.utils.files import open_regular, write_atomically
from dl_lib.utils.run_files import CHECKSUM_SUFFIX

__all__ = ["HashingFile", "checksum_path", "sha256_of", "verify_checksum", "write_checksum"]

_LINE = re.compile(rb"([0-9a-f]{64}) [ *].+\n?")
_MAX_LINE_BYTES = 4096  # more than a digest and the longest file name
_CHUNK_BYTES = 2**20


class HashingFile:
    """Wrapper of an empty file that computes the SHA-256 of everything written sequentially."""

    def __init__(self, file: IO[bytes]) -> None:
        self.failure: OSError | None = None  # first one raised by a write; torch raises its own error instead
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, data: bytes | memoryview) -> int:
        self._hash.update(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.failure = self.failure or error
            raise

    def flush(self) -> None:
        self._file.flush()

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def checksum_path(path: str) -> str:
    return path + CHECKSUM_SUFFIX


def write_checksum(path: str, digest: str) -> None:
    """Write the checksum file of a file atomically."""
    write_atomically(checksum_path(path), f"{digest}  {os.path.basename(path)}\n")


def sha256_of(file: IO[bytes]) -> str:
    """Return the hexadecimal SHA-256 of the rest of a file."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def verify_checksum(file: IO[bytes], path: str) -> None:
    """Compare the file at `path`, opened at its start, with its checksum file, if any, and seek back to the start.

    Raises:
        CheckpointError: If the digests differ, or the checksum file is malformed.
    """
    try:
        with open_regular(checksum_path(path)) as checksum_file:
            line = _LINE.fullmatch(checksum_file.read(_MAX_LINE_BYTES))
    except FileNotFoundError:
        return
    expected = line[1].decode() if line else "a valid sha256sum line"
    found = sha256_of(file)
    if found != expected:
        raise CheckpointError(
            f"checksum mismatch with {os.path.basename(checksum_path(path))}: the file or its checksum is damaged or "
            "was replaced. Copy or download the file again, or use another checkpoint; delete the checksum file if the "
            f"checkpoint is known to be valid. Received: path={path!r}, sha256={found}, expected={expected}"
        )
    file.seek(0)
