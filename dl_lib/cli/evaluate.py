"""Subcommand `dl_lib evaluate` (alias `dl_test`): evaluation of a run's last checkpoint or of other weights."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dl_lib.cli.arguments import experiment_parser, parse_run_arguments
from dl_lib.cli.errors import user_errors
from dl_lib.cli.experiment import (
    Experiment,
    check_weights,
    copy_own_code,
    load_experiment,
    register_parts,
    start_processes,
)
from dl_lib.config import ConfigError, write_config
from dl_lib.config.overrides import parse_overrides
from dl_lib.launch import resolve_world_size
from dl_lib.utils.run_files import CONFIG_NAME

if TYPE_CHECKING:
    from torch import nn

__all__ = ["evaluate", "evaluate_experiment", "main", "with_weights"]


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_test") -> None:
    """Evaluate on all datasets of `DATASETS.TEST`; see `dl_lib evaluate --help`."""
    parser = experiment_parser(
        prog=prog,
        description="Evaluate on DATASETS.TEST. The weights are those of MODEL.WEIGHTS if overridden here, else the "
        "last checkpoint in OUTPUT_DIR (with --config-file RUN_FOLDER: in that folder), else MODEL.WEIGHTS of the "
        "config.",
    )
    parser.add_argument(
        "--submission",
        action="store_true",
        help="also write the archive for the evaluation server of Cityscapes or PASCAL VOC to the run folder, after "
        "checks of file names, image sizes and label ids",
    )
    with user_errors(prog):
        arguments = parse_run_arguments(parser, argv)
        evaluate_experiment(arguments, submission=arguments.submission)


def evaluate_experiment(arguments: argparse.Namespace, *, submission: bool) -> None:
    """Evaluate in the processes given on the command line; `submission` also writes archives for evaluation servers.

    Raises:
        ConfigError: If the config is invalid, or there is nothing to evaluate.
    """
    world_size = resolve_world_size(arguments.processes)
    experiment = load_experiment(arguments.config_file, arguments.opts, world_size=world_size, purpose="evaluation")
    experiment = with_weights(experiment, arguments.opts)
    check_weights(experiment)
    if submission:
        _check_benchmarks(experiment)
    start_processes(evaluate, arguments, experiment, submission)


def with_weights(experiment: Experiment, opts: Sequence[str]) -> Experiment:
    """Return the experiment with `MODEL.WEIGHTS` set to the weights to evaluate.

    Weights given on the command line take precedence over the last checkpoint in the run folder. Weights given in the
    config come last, because in a run folder they are the initial weights of its training.

    Raises:
        ConfigError: If there are no weights, or no datasets to evaluate on.
    """
    cfg = experiment.cfg.clone()
    cfg.defrost()
    if "MODEL.WEIGHTS" not in dict(parse_overrides(opts)):
        cfg.MODEL.WEIGHTS = _last_checkpoint(cfg.OUTPUT_DIR) or cfg.MODEL.WEIGHTS
    if not cfg.MODEL.WEIGHTS:
        raise ConfigError(
            "MODEL.WEIGHTS: no weights to evaluate, and no checkpoint in the run folder; train first, or add "
            f"MODEL.WEIGHTS=PATH. Received: OUTPUT_DIR={cfg.OUTPUT_DIR!r}"
        )
    if not cfg.DATASETS.TEST:
        raise ConfigError(
            "DATASETS.TEST: no datasets to evaluate on; add DATASETS.TEST=[NAME]. Received: DATASETS.TEST=[]"
        )
    cfg.freeze()
    return dataclasses.replace(experiment, cfg=cfg)


def evaluate(experiment: Experiment, submission: bool) -> None:
    """Evaluate `MODEL.WEIGHTS` in this process, which is one process of the run; see `evaluate_experiment`."""
    from dl_lib.checkpoint import Checkpointer
    from dl_lib.engine import build_configured_model
    from dl_lib.evaluation import evaluate_datasets
    from dl_lib.utils import comm
    from dl_lib.utils.logger import errors_logged, setup_logger

    register_parts(experiment)
    cfg, output_dir = experiment.cfg, experiment.output_dir
    setup_logger(output_dir, rank=comm.get_rank())
    with errors_logged("evaluating"):
        if comm.is_main_process() and not (output_dir / CONFIG_NAME).exists():  # keep the config of the training run
            write_config(cfg, output_dir)
            copy_own_code(experiment)
        model = build_configured_model(cfg)
        rest = Checkpointer(model).load(
            cfg.MODEL.WEIGHTS,
            allow_missing_keys=cfg.MODEL.ALLOW_MISSING_KEYS,
            allow_unexpected_keys=cfg.MODEL.ALLOW_UNEXPECTED_KEYS,
        )
        if cfg.SOLVER.EMA.DECAY and cfg.SOLVER.EMA.EVALUATE:
            _load_ema(model, rest, weights=cfg.MODEL.WEIGHTS)
        evaluate_datasets(cfg, model, output_dir, submission=submission)
        if comm.is_main_process():
            logging.getLogger(__name__).info("Results: %s", output_dir.absolute())


def _check_benchmarks(experiment: Experiment) -> None:
    from dl_lib.data import DatasetCatalog

    names = experiment.cfg.DATASETS.TEST
    without = [name for name in names if not DatasetCatalog.meta(name).benchmark]
    if without:
        raise ConfigError(
            f"--submission: no evaluation server for {', '.join(without)}; use datasets such as "
            "cityscapes_fine_sem_seg_test or voc_2012_sem_seg_test. "
            f"Received: DATASETS.TEST={names}"
        )


def _last_checkpoint(output_dir: str) -> str:
    from torch import nn

    from dl_lib.checkpoint import Checkpointer

    return Checkpointer(nn.Identity(), output_dir).get_checkpoint_file()


def _load_ema(model: nn.Module, checkpoint: Mapping[str, Any], *, weights: str) -> None:
    """Replace the weights by their EMA, which is also evaluated during training."""
    from dl_lib.checkpoint import load_ema_weights

    log = logging.getLogger(__name__)
    if load_ema_weights(model, checkpoint, path=weights):
        log.info("Evaluating the EMA weights; SOLVER.EMA.EVALUATE=False evaluates the raw weights")
    else:
        log.warning("No EMA weights in %s although SOLVER.EMA.DECAY is set; evaluating the raw weights", weights)
