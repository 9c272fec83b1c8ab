"""Trained run that a command works on: its config, the choice of its weights, and its model."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_lib.config import CfgNode, ConfigError
from dl_lib.config.crop_size import MAX_AUTOMATIC_CROP_PX
from dl_lib.config.overrides import parse_overrides
from dl_lib.experiment.config_file import find_config_file
from dl_lib.experiment.experiment import Experiment, check_weights, keep_crop, load_experiment
from dl_lib.utils.run_files import LAST_CHECKPOINT_NAME, is_evaluation_folder

if TYPE_CHECKING:
    from torch import nn

    from dl_lib.validation import Purpose

__all__ = ["gives_weights", "load_trained_model", "load_trained_run", "with_weights"]


def load_trained_run(
    config_file: str | None,
    opts: Sequence[str],
    *,
    option: str = "--config-file",
    world_size: int = 1,
    purpose: Purpose = "evaluation",
) -> Experiment:
    """Read an experiment with the weights to evaluate and the crop of their training, and validate its config.

    Args:
        config_file: See `find_config_file`.
        opts: Overrides, as `KEY VALUE` and `KEY=VALUE`.
        option: Option or argument that names the file, for messages.
        world_size: Number of processes.
        purpose: Purpose to validate the config for; an evaluation needs a dataset in `DATASETS.TEST`.

    Raises:
        ConfigError: If the config is invalid, or there are no weights or no datasets.
    """
    path = os.fspath(find_config_file(config_file, option=option))
    experiment = load_experiment(path, opts, world_size=world_size, purpose=purpose)
    experiment = with_weights(experiment, opts)
    if purpose == "evaluation" and not experiment.cfg.DATASETS.TEST:
        raise ConfigError(
            "DATASETS.TEST: no datasets to evaluate on; add DATASETS.TEST=[NAME]. Received: DATASETS.TEST=[]"
        )
    largest_crop = [MAX_AUTOMATIC_CROP_PX] * 2  # of foreign weights; the ratio of costs does not depend on the crop
    experiment = keep_crop(experiment, Path(experiment.cfg.MODEL.WEIGHTS).parent, default=largest_crop)
    check_weights(experiment)
    return experiment


def with_weights(experiment: Experiment, opts: Sequence[str]) -> Experiment:
    """Return the experiment with `MODEL.WEIGHTS` set to the weights to evaluate.

    Weights given on the command line take precedence over the last checkpoint of the run, which is the folder of the
    config if that is a run folder, otherwise `OUTPUT_DIR`. Weights given in the config come last, because in a run
    folder they are the initial weights of its training.

    Raises:
        ConfigError: If there are no weights.
    """
    cfg = experiment.cfg
    weights = "" if gives_weights(opts) else _last_checkpoint(experiment)
    weights = weights or cfg.MODEL.WEIGHTS
    if not weights:
        raise ConfigError(
            "MODEL.WEIGHTS: no weights to evaluate, and no checkpoint in the run folder; train first, or add "
            f"MODEL.WEIGHTS=PATH. Received: OUTPUT_DIR={cfg.OUTPUT_DIR!r}"
        )
    return dataclasses.replace(experiment, cfg=cfg.with_values({"MODEL.WEIGHTS": weights}))


def gives_weights(opts: Sequence[str]) -> bool:
    """Return whether overrides give the weights, instead of leaving the choice to `with_weights`."""
    return "MODEL.WEIGHTS" in dict(parse_overrides(opts))


def load_trained_model(cfg: CfgNode) -> nn.Module:
    """Build the model on its device and load `MODEL.WEIGHTS`: the EMA weights if they are evaluated.

    Raises:
        CheckpointError: If the weights cannot be loaded.
    """
    from dl_lib.checkpoint import Checkpointer, allowed_keys
    from dl_lib.engine import build_configured_model

    # A budget acts in training only, and one in milliseconds needs its latency table and device.
    model = build_configured_model(cfg.with_values({"MODEL.BUDGET.CONSTRAIN": False}))
    rest = Checkpointer(model).load(cfg.MODEL.WEIGHTS, **allowed_keys(cfg))
    if cfg.SOLVER.EMA.DECAY and cfg.SOLVER.EMA.EVALUATE:
        _load_ema(model, rest, weights=cfg.MODEL.WEIGHTS)
    return model


def _last_checkpoint(experiment: Experiment) -> str:
    from torch import nn

    from dl_lib.checkpoint import Checkpointer

    folder = experiment.config_file.parent
    if is_evaluation_folder(folder):
        return ""  # an evaluation is repeated with the weights that its config records
    if not os.path.lexists(folder / LAST_CHECKPOINT_NAME):
        folder = experiment.output_dir
    return Checkpointer(nn.Identity(), os.fspath(folder)).get_checkpoint_file()


def _load_ema(model: nn.Module, checkpoint: Mapping[str, Any], *, weights: str) -> None:
    """Replace the weights by their EMA, which is also evaluated during training."""
    from dl_lib.checkpoint import load_ema_weights

    log = logging.getLogger(__name__)
    if load_ema_weights(model, checkpoint, path=weights):
        log.info("Evaluating the EMA weights; SOLVER.EMA.EVALUATE=False evaluates the raw weights")
    else:
        log.warning("No EMA weights in %s although SOLVER.EMA.DECAY is set; evaluating the raw weights", weights)
