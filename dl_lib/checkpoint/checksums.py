"""The checksum beside a file: made while the file is written, compared when it is read.

`model_0000500.pth.sha256` holds one line as the sha256sum tool writes it, so that `sha256sum -c` checks it by hand.
Source of the format: https://www.gnu.org/software/coreutils/manual/html_node/md5sum-invocation.html
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
    """Passes on what is written to a file, from its start to its end, and hashes it on the way.

    Args:
        file: nothing may have been written to it.

    Attributes:
        failure: the first error of the system while writing; torch reports it as an error of its own.
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
        """The checksum of all that was written."""
        return self._hash.hexdigest()


def checksum_path(path: str) -> str:
    """Where the checksum of a file stands."""
    return path + CHECKSUM_SUFFIX


def write_checksum(path: str, digest: str) -> None:
    """Puts the checksum of a file beside it, atomically."""
    write_atomically(checksum_path(path), f"{digest}  {os.path.basename(path)}\n")


def verify_checksum(file: IO[bytes], path: str) -> None:
    """Compares a file with the checksum beside it, if there is one; leaves the file at its start.

    Args:
        file: what is at `path`, open at its start.
        path: where the checksum is looked for.

    Raises:
        CheckpointError: if they differ, or the checksum is none.
    """
    try:
        with open(checksum_path(path), "rb") as beside:
            line = _LINE.fullmatch(beside.read())
    except FileNotFoundError:
        return
    expected = line[1].decode() if line else "no line of sha256sum"
    found = _hexdigest(file)
    if found != expected:
        raise CheckpointError(
            f"the file is not the one that {os.path.basename(checksum_path(path))} was written for: one of the two is "
            f"damaged, or was exchanged since. Fetch the file again or name another one; if you know it to be sound, "
            f"remove the checksum. Received: path={path!r}, sha256={found}, expected={expected}"
        )
    file.seek(0)


def _hexdigest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
