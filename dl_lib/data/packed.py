"""Records of a data set in one piece of memory, which the processes that load data can share.

A forked process shares its parent's memory until one of them writes to a page. For a list of Python objects that is
at once: looking at an object counts a reference, and the counter lies beside the object itself. So each worker would
end up with a copy of the whole list. The bytes of an array are read without being written to, and they go to a process
that is not forked in one piece.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = ["PackedRecords"]


class PackedRecords:
    """Records by index, each unpacked anew when it is asked for.

    Args:
        records: of what JSON knows: text, numbers, True, False, None, lists and dicts of these with text as keys.

    Raises:
        TypeError: if a record holds something else.
    """

    def __init__(self, records: Iterable[Any]) -> None:
        encoded = [json.dumps(record, separators=(",", ":")).encode() for record in records]
        self._bytes = np.frombuffer(b"".join(encoded), np.uint8)
        self._ends = np.cumsum([len(record) for record in encoded], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"there are records 0..{len(self) - 1}. Received: index={index}")
        start = self._ends[index - 1] if index else 0
        return json.loads(self._bytes[start : self._ends[index]].tobytes())

    def digest(self) -> str:
        """A text that is another one for other records."""
        return hashlib.sha256(self._bytes.tobytes()).hexdigest()
