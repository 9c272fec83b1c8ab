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
from dl_lib.utils.files import write_atomically
from dl_lib.utils.run_files import CHECKSUM_SUFFIX

__all__ = ["HashingFile", "checksum_path", "verify_checksum", "write_checksum"]


_LINE = re.compile(rb"([0-9a-f]{64}) [ *].+\n?")
_CHUNK_BYTES = 2**20


class HashingFile:
    """Write-only file wrapper that computes the SHA-256 of everything written sequentially.

    Args:
        file: Empty file opened for writing.

    Attributes:
        failure: First `OSError` raised by a write; torch raises its own error instead.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.failure: OSError | None = None
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
        """Return the SHA-256 of the data written so far."""
        return self._hash.hexdigest()


def checksum_path(path: str) -> str:
    """Return the path of a file's checksum file."""
    return path + CHECKSUM_SUFFIX


def write_checksum(path: str, digest: str) -> None:
    """Write the checksum file of a file atomically."""
    write_atomically(checksum_path(path), f"{digest}  {os.path.basename(path)}\n")


def verify_checksum(file: IO[bytes], path: str) -> None:
    """Compare a file with its checksum file, if there is one, and seek back to the start.

    Args:
        file: Content of `path`, opened at its start.
        path: Path of the file, which determines the path of the checksum file.

    Raises:
        CheckpointError: If the digests differ, or the checksum file is malformed.
    """
    try:
        with open(checksum_path(path), "rb") as checksum_file:
            line = _LINE.fullmatch(checksum_file.read())
    except FileNotFoundError:
        return
    expected = line[1].decode() if line else "a valid sha256sum line"
    found = _hexdigest(file)
    if found != expected:
        raise CheckpointError(
            f"checksum mismatch with {os.path.basename(checksum_path(path))}: the file or its checksum is damaged or "
            "was replaced. Copy or download the file again, or use another checkpoint; delete the checksum file if the "
            f"checkpoint is known to be valid. Received: path={path!r}, sha256={found}, expected={expected}"
        )
    file.seek(0)


def _hexdigest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
