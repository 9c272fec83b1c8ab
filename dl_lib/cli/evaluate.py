"""`dl_test`: evaluate the last checkpoint of a run, or other weights."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dl_lib.cli.arguments import parse_run_arguments
from dl_lib.cli.errors import user_errors
from dl_lib.cli.experiment import Experiment, check_weights, copy_net, load_experiment, register_parts, start_processes
from dl_lib.config import ConfigError, write_config
from dl_lib.config.overrides import parse_overrides
from dl_lib.launch import resolve_world_size
from dl_lib.utils.run_files import CONFIG_NAME

if TYPE_CHECKING:
    from torch import nn

__all__ = ["check_benchmarks", "evaluate", "evaluate_experiment", "main", "with_weights"]

WEIGHTS = "MODEL.WEIGHTS"


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_test") -> None:
    """Evaluate on all data sets of `DATASETS.TEST`; see `dl_test --help`."""
    arguments = parse_run_arguments(
        argv,
        prog=prog,
        description="Evaluate MODEL.WEIGHTS if given here, else the last checkpoint in OUTPUT_DIR "
        "(with --config-file RUN_FOLDER: in that folder), else the MODEL.WEIGHTS of the configuration.",
        trains=False,
    )
    with user_errors(prog):
        evaluate_experiment(arguments)


def evaluate_experiment(arguments: argparse.Namespace) -> None:
    """Evaluate in as many processes as the command line asks for.

    Raises:
        ConfigError: if the configuration cannot be used, or there is nothing to evaluate.
    """
    world_size = resolve_world_size(arguments.processes)
    experiment = load_experiment(arguments.config_file, arguments.opts, world_size=world_size, purpose="evaluation")
    experiment = with_weights(experiment, arguments.opts)
    check_weights(experiment)
    if arguments.submission:
        check_benchmarks(experiment)
    start_processes(evaluate, arguments, experiment, arguments.submission)


def check_benchmarks(experiment: Experiment) -> None:
    """Make sure that predictions on the data sets can be submitted.

    Raises:
        ConfigError: if a data set belongs to no benchmark with a server.
    """
    from dl_lib.data import DatasetCatalog

    names = experiment.cfg.DATASETS.TEST
    without = [name for name in names if not DatasetCatalog.meta(name).benchmark]
    if without:
        raise ConfigError(
            "--submission writes what the servers of Cityscapes and PASCAL VOC take, and no such benchmark is behind "
            f"{', '.join(without)}; name others, such as cityscapes_fine_sem_seg_test or voc_2012_sem_seg_test. "
            f"Received: DATASETS.TEST={names}"
        )


def with_weights(experiment: Experiment, opts: Sequence[str]) -> Experiment:
    """The experiment with `MODEL.WEIGHTS` set to what is to be evaluated.

    Those of the command line come first, then the last checkpoint of the run's folder. The configuration's own come
    last: in a finished run's folder they are what its training started from.

    Raises:
        ConfigError: if there are no weights, or nothing to evaluate on.
    """
    cfg = experiment.cfg.clone()
    cfg.defrost()
    if WEIGHTS not in dict(parse_overrides(opts)):
        cfg.MODEL.WEIGHTS = _last_checkpoint(cfg.OUTPUT_DIR) or cfg.MODEL.WEIGHTS
    if not cfg.MODEL.WEIGHTS:
        raise ConfigError(
            "there is nothing to evaluate: the run's folder holds no checkpoint, and no weights are given. Train "
            f"first, or add MODEL.WEIGHTS=PATH. Received: OUTPUT_DIR={cfg.OUTPUT_DIR!r}"
        )
    if not cfg.DATASETS.TEST:
        raise ConfigError("there is nothing to evaluate on. Received: DATASETS.TEST=[]")
    cfg.freeze()
    return dataclasses.replace(experiment, cfg=cfg)


def _last_checkpoint(output_dir: str) -> str:
    from torch import nn

    from dl_lib.checkpoint import Checkpointer

    return Checkpointer(nn.Identity(), output_dir).get_checkpoint_file()


def evaluate(experiment: Experiment, submission: bool) -> None:
    """Evaluate in this process, one of those of the run; writes the report into the run's folder.

    Args:
        experiment: with the weights to evaluate in `MODEL.WEIGHTS`.
        submission: also write the archives that the data sets' benchmarks take.
    """
    from dl_lib.checkpoint import Checkpointer
    from dl_lib.engine import build_configured_model
    from dl_lib.evaluation import evaluate_datasets
    from dl_lib.utils import comm
    from dl_lib.utils.logger import errors_logged, setup_logger

    register_parts(experiment)
    cfg, output_dir = experiment.cfg, experiment.output_dir
    setup_logger(output_dir, rank=comm.get_rank())
    with errors_logged("evaluating"):
        if comm.is_main_process() and not (output_dir / CONFIG_NAME).exists():  # that of a training stays
            write_config(cfg, output_dir)
            copy_net(experiment)
        model = build_configured_model(cfg)
        rest = Checkpointer(model).load(
            cfg.MODEL.WEIGHTS,
            allow_missing_keys=cfg.MODEL.ALLOW_MISSING_KEYS,
            allow_unexpected_keys=cfg.MODEL.ALLOW_UNEXPECTED_KEYS,
        )
        if cfg.SOLVER.EMA.DECAY and cfg.SOLVER.EMA.EVALUATE:
            _take_average(model, rest, weights=cfg.MODEL.WEIGHTS)
        evaluate_datasets(cfg, model, output_dir, submission=submission)
        if comm.is_main_process():
            logging.getLogger(__name__).info("the results are in %s", output_dir.absolute())


def _take_average(model: nn.Module, checkpoint: Mapping[str, Any], *, weights: str) -> None:
    """Puts the average of the weights in their place, as the evaluations during the training do."""
    log = logging.getLogger(__name__)
    if "ema" in checkpoint:
        model.load_state_dict(checkpoint["ema"]["weights"])
        log.info("evaluating the average of the weights; SOLVER.EMA.EVALUATE=False evaluates the weights themselves")
    else:
        log.warning("SOLVER.EMA asks for the average of the weights, and the file holds none. Received: %s", weights)
