"""Replacement of a folder as a whole: written aside, then renamed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from dl_lib.utils.files import PARTIAL_SUFFIX, sync_folder

__all__ = ["finish_replacement", "partial_folder", "replace_folder"]


def partial_folder(folder: Path) -> Path:
    """Return the hidden folder next to a folder in which its next content is written; see `replace_folder`."""
    return folder.with_name(f".{folder.name}{PARTIAL_SUFFIX}")


def replace_folder(folder: Path) -> None:
    """Replace a folder by its complete `partial_folder`.

    A folder cannot be replaced in one step: the old one is renamed first. After a crash in between, it has its hidden
    name, which `finish_replacement` takes back.
    """
    previous = _previous_folder(folder)
    if folder.exists():
        os.rename(folder, previous)
    try:
        os.rename(partial_folder(folder), folder)
    except BaseException:
        finish_replacement(folder)
        raise
    sync_folder(os.fspath(folder.parent))
    finish_replacement(folder)


def finish_replacement(folder: Path) -> None:
    """Restore a folder whose replacement was interrupted, or remove the old one if it was replaced."""
    previous = _previous_folder(folder)
    if not folder.exists() and previous.exists():
        os.rename(previous, folder)
    shutil.rmtree(previous, ignore_errors=True)


def _previous_folder(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")
