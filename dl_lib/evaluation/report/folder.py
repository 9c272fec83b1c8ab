"""Folder of an evaluation with `dl_lib evaluate`: one complete result under one set of settings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dl_lib.checkpoint.folder import is_resumable
from dl_lib.checkpoint.locate import is_address
from dl_lib.config import CfgNode, ConfigError, get_cfg
from dl_lib.utils import comm
from dl_lib.utils.folder_lock import check_present, locked_folder
from dl_lib.utils.folder_replacement import finish_replacement, partial_folder, replace_folder
from dl_lib.utils.names import NAME_RULE, is_safe_name
from dl_lib.utils.run_files import CONFIG_NAME, LOCK_NAME

__all__ = ["check_settings", "evaluation_name", "recorded_config", "replaced_folder", "result_settings"]

_WEIGHTS, _FOLDERS = "MODEL.WEIGHTS", "DATASETS.FOLDERS"
# Keys that determine the results; others steer training, or how an evaluation is executed.
_SETTINGS = (
    *("MODEL.", "TEST.", "DATASETS.TEST", "DATALOADER.ON_ERROR", "SOLVER.EMA.DECAY", "SOLVER.EMA.EVALUATE"),
    *("INPUT.FORMAT", "INPUT.BACKEND", "INPUT.MIN_SIZE_TEST", "INPUT.MAX_SIZE_TEST"),
)
_NO_SETTINGS = (
    *("MODEL.ALLOW_", "MODEL.DEVICE", "MODEL.COMPILE", "MODEL.CHANNELS_LAST", "MODEL.LOSS."),
    *("MODEL.ACTIVATION_CHECKPOINTING", "TEST.EVAL_PERIOD", "TEST.OPTIMIZE", "TEST.VALIDATION_LOSS"),
    "TEST.PRECISE_BN.",
    "MODEL.BUDGET.LATENCY_TABLE",
)


def evaluation_name(name: str | None, *, dataset_names: list[str]) -> str:
    """Return the name of an evaluation: the given one, or those of its datasets, joined by `+`.

    Raises:
        ConfigError: If it cannot be the name of a folder.
    """
    chosen = "+".join(dataset_names) if name is None else name
    if not is_safe_name(chosen):
        raise ConfigError(f"--name: must be {NAME_RULE}; add --name NAME. Received: --name={chosen!r}")
    return chosen


def check_settings(cfg: CfgNode, folder: Path, *, weights_are_given: bool) -> None:
    """Check that a folder holds no evaluation under other settings, which must not be replaced.

    The last checkpoint of a run may replace an earlier one.

    Args:
        cfg: Config of the new evaluation; `MODEL.WEIGHTS` is set.
        folder: Evaluation folder, which need not exist.
        weights_are_given: Whether the user gave the weights, instead of evaluating the last checkpoint.

    Raises:
        ConfigError: If the folder holds an evaluation under other settings, or no evaluation.
    """
    if not folder.exists():
        return
    try:
        saved = get_cfg()
        saved.merge_from_file(folder / CONFIG_NAME)
    except ConfigError as error:
        raise ConfigError(
            "--name: this folder exists but holds no evaluation of this version; choose another name (--name NAME), or "
            f"remove the folder ({error}). Received: folder={str(folder)!r}"
        ) from error
    old, new = result_settings(saved), result_settings(recorded_config(cfg))
    if not weights_are_given and is_resumable(os.path.basename(old[_WEIGHTS])):
        del new[_WEIGHTS]
    changed = [f"{key} was {old[key]!r}, not {new[key]!r}" for key in new if key in old and old[key] != new[key]]
    if changed:
        raise ConfigError(
            f"--name: this folder holds an evaluation under other settings; choose another name (--name NAME), or "
            f"remove the folder ({'; '.join(changed)}). Received: folder={str(folder)!r}"
        )


def recorded_config(cfg: CfgNode) -> CfgNode:
    """Return the config to write into the evaluation folder, with absolute paths, so that it works in any folder."""
    weights = cfg.MODEL.WEIGHTS if is_address(cfg.MODEL.WEIGHTS) else os.path.abspath(cfg.MODEL.WEIGHTS)
    return cfg.with_values({"OUTPUT_DIR": os.path.abspath(cfg.OUTPUT_DIR), _WEIGHTS: weights})


@contextmanager
def replaced_folder(folder: Path, *, key: str = "--name") -> Iterator[Path]:
    """Context manager that yields an empty folder, which replaces `folder` at the end; a collective.

    Until then, and after an error or a crash, `folder` has its previous content.

    Args:
        folder: Folder to replace, or to create.
        key: Command-line argument that names the folder, for error messages.

    Raises:
        OutputPathError: If the folder cannot be written, or another process is about to replace it.
    """
    partial = partial_folder(folder)
    with locked_folder(partial, key=key):
        if comm.is_main_process():
            finish_replacement(folder)
            for entry in partial.iterdir():
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                elif entry.name != LOCK_NAME:
                    entry.unlink()
        comm.synchronize()
        yield partial
        comm.synchronize()  # all processes have finished writing
        check_present(partial, key=key)
        if comm.is_main_process():
            (partial / LOCK_NAME).unlink()
            replace_folder(folder)


def result_settings(cfg: CfgNode) -> dict[str, Any]:
    """Return the config values that determine the results; `DATASETS.FOLDERS` with the evaluated datasets only."""
    values = cfg.flat()
    settings = {key: values[key] for key in values if key.startswith(_SETTINGS) and not key.startswith(_NO_SETTINGS)}
    evaluated = [entry for entry in values[_FOLDERS] if entry["NAME"] in values["DATASETS.TEST"]]
    return {**settings, _FOLDERS: evaluated}
