"""Record of a tracked run in the run folder, so that a resumed run continues it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from dl_lib.utils.files import read_regular, write_atomically

__all__ = ["TrackedRun"]

_MAX_BYTES = 2**16
_MAX_ID_LENGTH = 1000


@dataclass(frozen=True)
class TrackedRun:
    """Run of an experiment tracker.

    Attributes:
        run_id: Id that the tracker gave it.
        iteration: Last iteration whose metrics the tracker has.
    """

    run_id: str
    iteration: int

    def __post_init__(self) -> None:
        is_valid = isinstance(self.run_id, str) and self.run_id.isprintable() and len(self.run_id) <= _MAX_ID_LENGTH
        if not (is_valid and self.run_id and type(self.iteration) is int and self.iteration >= 0):
            raise ValueError(
                f"run_id must be a printable text of at most {_MAX_ID_LENGTH} characters, and iteration at least 0. "
                f"Received: run_id={self.run_id!r:.80}, iteration={self.iteration!r:.80}"
            )

    @classmethod
    def read(cls, path: Path) -> TrackedRun | None:
        """Return the record in a file; None if there is no file.

        Raises:
            ValueError: If the content is invalid.
            OSError: If the file cannot be read.
        """
        try:
            return cls(**json.loads(read_regular(path, max_bytes=_MAX_BYTES)))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, RecursionError) as error:
            raise ValueError(
                f"{path.name} must hold the run_id and iteration of a tracked run; delete the file to track a new "
                f"one. Received: {error}"
            ) from error

    def write(self, path: Path) -> None:
        """Write the record atomically."""
        write_atomically(path, json.dumps(asdict(self)) + "\n", durable=False)
