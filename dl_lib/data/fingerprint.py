"""Telling whether a data set is still the one that it was."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

__all__ = ["Fingerprinted", "fingerprint_files"]


@runtime_checkable
class Fingerprinted(Protocol):
    """A data set that knows when its samples can have changed."""

    def fingerprint(self) -> str:
        """A text that is another one whenever a sample may be, without reading the samples."""
        ...


def fingerprint_files(paths: Iterable[str], *, about: str = "") -> str:
    """A digest of the files' names, sizes and times of modification, in their order.

    Args:
        paths: a file that is not there counts as such.
        about: what the samples depend on besides.
    """
    digest = hashlib.sha256(about.encode())
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            state = "missing"
        else:
            state = f"{status.st_size} {status.st_mtime_ns}"
        digest.update(f"\0{path}\0{state}".encode())
    return digest.hexdigest()
