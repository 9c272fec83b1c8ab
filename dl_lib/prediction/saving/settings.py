"""Settings of the predictions in an output folder, which a resumed command must share."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dl_lib.config.errors import shortened
from dl_lib.utils.files import read_regular, write_atomically
from dl_lib.utils.names import joined
from dl_lib.utils.output_path import OutputPathError, unusable_folder
from dl_lib.utils.run_files import LOCK_NAME, LOG_NAME

__all__ = ["SETTINGS_NAME", "check_settings", "write_settings"]

SETTINGS_NAME = "predict.json"
_OPTION = "--output"
_MAX_BYTES = 2**24
_MAX_LISTED = 5  # differing settings


def check_settings(folder: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
    """Check that an output folder is empty, or to be resumed with the settings of its predictions.

    Args:
        folder: Output folder, which need not exist.
        settings: Everything that determines the predictions and their names, as JSON values by name.
        resume: Whether predictions in the folder are kept and continued.

    Raises:
        OutputPathError: If it is no folder, has other content, or predictions under other settings.
    """
    try:
        if not folder.exists() or all(path.name in (LOCK_NAME, LOG_NAME) for path in folder.iterdir()):
            return
    except OSError as error:
        raise unusable_folder(error, folder, key=_OPTION) from error
    received = f"Received: {_OPTION}={str(folder)!r}"
    if not resume:
        raise OutputPathError(
            f"{_OPTION}: this folder is not empty; choose another one, or add --resume to continue an interrupted "
            f"prediction. {received}"
        )
    try:
        earlier = json.loads(read_regular(folder / SETTINGS_NAME, max_bytes=_MAX_BYTES))
    except (OSError, ValueError, RecursionError) as error:
        raise OutputPathError(
            f"{_OPTION}: this folder is not empty and has no valid {SETTINGS_NAME}, so that there is no prediction to "
            f"resume; choose another one ({error}). {received}"
        ) from error
    if differences := _differences(earlier, json.loads(json.dumps(settings))):
        raise OutputPathError(
            f"{_OPTION}: this folder holds predictions under other settings; choose another one, or repeat the "
            f"settings ({joined(differences, limit=_MAX_LISTED, separator='; ')}). {received}"
        )


def write_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of the predictions in a folder."""
    write_atomically(folder / SETTINGS_NAME, json.dumps(settings, indent=1) + "\n")


def _differences(earlier: Any, settings: Mapping[str, Any]) -> list[str]:
    old = earlier if isinstance(earlier, dict) else {}
    keys = [key for key in {**settings, **old} if old.get(key) != settings.get(key)]
    return [f"{key} was {shortened(repr(old.get(key)))}, not {shortened(repr(settings.get(key)))}" for key in keys]
