"""The names in a run's folder: which files are checkpoints of its run, and which of them is called the last."""

from __future__ import annotations

import os
import re
from pathlib import Path

from dl_lib.checkpoint.errors import UnreadableCheckpointError
from dl_lib.utils.files import PARTIAL_SUFFIX, remove_durably, write_atomically
from dl_lib.utils.run_files import (
    BEST_CHECKPOINT,
    CHECKPOINT_SUFFIX,
    CHECKSUM_SUFFIX,
    EARLIER_CHECKPOINTS_NAME,
    FINAL_CHECKPOINT,
    LAST_CHECKPOINT_NAME,
)

__all__ = ["RunFolder"]

_NUMBERED = re.compile(r"model_(\d{7,})")
_OWN = re.compile(rf"({_NUMBERED.pattern}|{FINAL_CHECKPOINT}|{BEST_CHECKPOINT}){re.escape(CHECKPOINT_SUFFIX)}")


class RunFolder:
    """Knows files by their names alone; whether they are sound is another question.

    A folder may hold checkpoints of an earlier run. They stay there, but they are listed in `earlier_checkpoints`, and
    the present run neither goes on from them nor deletes them. One that is written anew leaves the list when it is
    whole; until then it counts as the earlier run's.

    Args:
        path: of the folder; need not exist.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def place(self, file_name: str) -> str:
        """Path of a file in the folder."""
        return os.path.join(self.path, file_name)

    def tagged(self) -> str | None:
        """What `last_checkpoint` says, which may be nothing that makes sense; None if it is not there."""
        return self._read(LAST_CHECKPOINT_NAME)

    def tag(self, file_name: str) -> None:
        """Calls a file the last checkpoint, atomically."""
        write_atomically(self.place(LAST_CHECKPOINT_NAME), file_name)

    def own(self) -> set[str]:
        """Names of the files that are this run's checkpoints."""
        return {name for name in self._listing() if _OWN.fullmatch(name)} - self._earlier()

    def numbered(self) -> dict[int, str]:
        """Those of `own` that bear an iteration, by it, the newest first."""
        found = {int(match[1]): name for name in self.own() if (match := _NUMBERED.match(name))}
        return dict(sorted(found.items(), reverse=True))

    def holds_run(self) -> bool:
        """Whether there is anything to go on from, or that says that there was."""
        return self.tagged() is not None or bool(self.own() - {BEST_CHECKPOINT + CHECKPOINT_SUFFIX})

    def presumed_last(self) -> str:
        """Name of the newest of `own`, as far as names tell; "" if there is none."""
        return self.tagged() or max(self.own() - {BEST_CHECKPOINT + CHECKPOINT_SUFFIX}, default="")

    def archive(self) -> None:
        """What is here belongs to an earlier run from now on."""
        names = sorted(name for name in self._listing() if _OWN.fullmatch(name))
        if names:
            write_atomically(self.place(EARLIER_CHECKPOINTS_NAME), "".join(f"{name}\n" for name in names))
        remove_durably(self.place(LAST_CHECKPOINT_NAME))

    def adopt(self, file_name: str) -> None:
        """A file that was just written is this run's, whoever wrote the one before it."""
        earlier = self._earlier()
        if file_name in earlier:
            rest = sorted(earlier - {file_name})
            write_atomically(self.place(EARLIER_CHECKPOINTS_NAME), "".join(f"{name}\n" for name in rest))

    def leftovers(self) -> list[str]:
        """Names of what a process left that was killed while it saved: halves, and checksums of deleted files."""
        names = self._listing()
        return [name for name in names if _is_half(name) or _is_orphan(name, names)]

    def _earlier(self) -> set[str]:
        return set((self._read(EARLIER_CHECKPOINTS_NAME) or "").splitlines())

    def _read(self, file_name: str) -> str | None:
        path = Path(self.place(file_name))
        try:
            return path.read_text(encoding="utf-8", errors="replace").strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unreadable(error, path=str(path)) from error

    def _listing(self) -> set[str]:
        try:
            with os.scandir(self.path) as entries:
                return {entry.name for entry in entries if entry.is_file()}
        except FileNotFoundError:
            return set()
        except OSError as error:
            raise _unreadable(error, path=self.path) from error


def _is_half(name: str) -> bool:
    whole = name.removesuffix(PARTIAL_SUFFIX)
    is_list = whole in (LAST_CHECKPOINT_NAME, EARLIER_CHECKPOINTS_NAME)
    return whole != name and (is_list or _OWN.fullmatch(whole.removesuffix(CHECKSUM_SUFFIX)) is not None)


def _is_orphan(name: str, others: set[str]) -> bool:
    checkpoint = name.removesuffix(CHECKSUM_SUFFIX)
    return checkpoint != name and _OWN.fullmatch(checkpoint) is not None and checkpoint not in others


def _unreadable(error: OSError, *, path: str) -> UnreadableCheckpointError:
    return UnreadableCheckpointError(
        f"cannot look for checkpoints: {error.strerror or error}. Make the folder readable, or choose another "
        f"OUTPUT_DIR. Received: path={path!r}"
    )
