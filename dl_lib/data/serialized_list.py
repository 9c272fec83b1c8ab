"""Serialized list of records in one NumPy array, to share memory between worker processes.

A forked process shares its parent's memory pages until one of the two writes to them. Pages with Python objects are
soon copied, because each access writes to the reference count inside the object, so every worker ends up with its own
copy of the list (copy-on-read, as in detectron2's `DatasetFromList`). The bytes of an array are read without a write,
and a process started by spawn receives them as one buffer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = ["SerializedList"]


class SerializedList:
    """Read-only list of JSON values, stored as text; each access deserializes one of them."""

    def __init__(self, records: Iterable[Any]) -> None:
        encoded = [json.dumps(record, separators=(",", ":")).encode() for record in records]
        self._bytes = np.frombuffer(b"".join(encoded), np.uint8)
        self._ends = np.cumsum([len(record) for record in encoded], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"index must be in 0..{len(self) - 1}. Received: index={index}")
        start = self._ends[index - 1] if index else 0
        return json.loads(self._bytes[start : self._ends[index]].tobytes())

    def digest(self) -> str:
        """Return a SHA-256 digest of the records."""
        return hashlib.sha256(self._bytes.tobytes()).hexdigest()
