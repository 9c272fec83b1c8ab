"""Archive of the earlier run in an output folder in which another run starts."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from dl_lib.utils.files import PARTIAL_SUFFIX, sync_folder, write_errors
from dl_lib.utils.run_files import COPIED_ON_ARCHIVE, EARLIER_RUN_STEM, LOGS, MOVED_ON_ARCHIVE

__all__ = ["archive_earlier_run", "is_being_archived"]


def archive_earlier_run(folder: Path) -> Path | None:
    """Move the metrics, TensorBoard events, checkpoints, results and logs of an earlier run to a numbered subfolder.

    Its config and code are copied, as the new run may use them. A folder with only logs holds no run.

    A process may be killed at any point. The files are first collected in a folder with a fixed name, whose presence
    means that those in `folder` are an incomplete run; the next call completes it.

    Returns:
        The subfolder, such as `earlier_run_1`; None if there is no earlier run.

    Raises:
        OSError: If a file cannot be moved.
    """
    collected = _collected(folder)
    names = _matches(folder, MOVED_ON_ARCHIVE)
    if not names and not collected.is_dir():
        return None
    os.makedirs(collected, exist_ok=True)
    packages = [f"{path.parent.name}/**/*.py" for path in folder.glob("*/__init__.py")]
    for name in _matches(folder, (*COPIED_ON_ARCHIVE, *packages)):
        with write_errors(collected / name):
            (collected / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / name, collected / name)
    for name in (*_matches(folder, LOGS), *names):
        if not (collected / name).exists():  # a failed start between the two calls has written a log of its own
            os.rename(folder / name, collected / name)
    sync_folder(collected)
    archive = folder / f"{EARLIER_RUN_STEM}_{_last_number(folder) + 1}"
    os.rename(collected, archive)
    sync_folder(folder)
    return archive


def is_being_archived(folder: Path) -> bool:
    """Return whether the files of an earlier run were only partly moved, so that those left must not be used."""
    return _collected(folder).is_dir()


def _collected(folder: Path) -> Path:
    return folder / f"{EARLIER_RUN_STEM}{PARTIAL_SUFFIX}"


def _matches(folder: Path, patterns: tuple[str, ...]) -> list[str]:
    return sorted(str(path.relative_to(folder)) for pattern in patterns for path in folder.glob(pattern))


def _last_number(folder: Path) -> int:
    numbers = (re.fullmatch(rf"{EARLIER_RUN_STEM}_(\d+)", path.name) for path in folder.iterdir())
    return max((int(match[1]) for match in numbers if match), default=0)
