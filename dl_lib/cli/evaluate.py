"""Subcommand `dl_lib evaluate` (alias `dl_test`): evaluation of a run's last checkpoint or of other weights."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_lib.cli.arguments import experiment_parser, parse_run_arguments
from dl_lib.cli.errors import user_errors
from dl_lib.cli.experiment import (
    Experiment,
    check_weights,
    keep_crop,
    load_experiment,
    register_parts,
    start_processes,
)
from dl_lib.cli.net_files import copy_nets
from dl_lib.config import CfgNode, ConfigError, write_config
from dl_lib.config.crop_size import MAX_AUTOMATIC_CROP_PX
from dl_lib.config.overrides import parse_overrides
from dl_lib.launch import resolve_world_size
from dl_lib.utils.output_path import prepare_folder
from dl_lib.utils.run_files import EVALUATIONS_NAME, LAST_CHECKPOINT_NAME, evaluation_folder

if TYPE_CHECKING:
    from torch import nn

__all__ = ["evaluate", "evaluate_experiment", "main", "with_weights"]


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_test") -> None:
    """Evaluate on all datasets of `DATASETS.TEST`; see `dl_lib evaluate --help`."""
    parser = experiment_parser(
        prog=prog,
        description="Evaluate on DATASETS.TEST. The weights are those of MODEL.WEIGHTS if overridden here, else the "
        "last checkpoint of the run (--config-file RUN_FOLDER, otherwise OUTPUT_DIR), else MODEL.WEIGHTS of the "
        "config. Results go to OUTPUT_DIR/evaluations/NAME, with RUN_FOLDER as the default of OUTPUT_DIR.",
    )
    parser.add_argument("--name", metavar="NAME", help="name of the evaluation (default: that of its dataset)")
    parser.add_argument(
        "--submission",
        action="store_true",
        help="also write the archive for the evaluation server of Cityscapes or PASCAL VOC, after checks of file "
        "names, image sizes and label ids",
    )
    with user_errors(prog):
        arguments = parse_run_arguments(parser, argv)
        evaluate_experiment(arguments, name=arguments.name, submission=arguments.submission)


def evaluate_experiment(arguments: argparse.Namespace, *, name: str | None, submission: bool) -> None:
    """Evaluate in the processes given on the command line.

    Args:
        arguments: Arguments of `parse_run_arguments`.
        name: Name of the evaluation; None takes those of the datasets.
        submission: Whether to write archives for evaluation servers.

    Raises:
        ConfigError: If the config is invalid, there is nothing to evaluate, or an evaluation under other settings has
            the name.
        OutputPathError: If `OUTPUT_DIR` cannot be written.
    """
    from dl_lib.evaluation.report.folder import check_settings, evaluation_name

    world_size = resolve_world_size(arguments.processes)
    experiment = load_experiment(arguments.config_file, arguments.opts, world_size=world_size, purpose="evaluation")
    experiment = with_weights(experiment, arguments.opts)
    largest_crop = [MAX_AUTOMATIC_CROP_PX] * 2  # of foreign weights; the ratio of costs does not depend on the crop
    experiment = keep_crop(experiment, Path(experiment.cfg.MODEL.WEIGHTS).parent, default=largest_crop)
    check_weights(experiment)
    if submission:
        _check_benchmarks(experiment)
    folder = evaluation_folder(experiment.output_dir, evaluation_name(name, dataset_names=experiment.cfg.DATASETS.TEST))
    check_settings(experiment.cfg, folder, weights_are_given=_gives_weights(arguments.opts))
    prepare_folder(experiment.output_dir, key="OUTPUT_DIR")
    start_processes(evaluate, arguments, experiment, folder, submission)


def with_weights(experiment: Experiment, opts: Sequence[str]) -> Experiment:
    """Return the experiment with `MODEL.WEIGHTS` set to the weights to evaluate.

    Weights given on the command line take precedence over the last checkpoint of the run, which is the folder of the
    config if that is a run folder, otherwise `OUTPUT_DIR`. Weights given in the config come last, because in a run
    folder they are the initial weights of its training.

    Raises:
        ConfigError: If there are no weights, or no datasets to evaluate on.
    """
    cfg = experiment.cfg
    weights = "" if _gives_weights(opts) else _last_checkpoint(experiment)
    weights = weights or cfg.MODEL.WEIGHTS
    if not weights:
        raise ConfigError(
            "MODEL.WEIGHTS: no weights to evaluate, and no checkpoint in the run folder; train first, or add "
            f"MODEL.WEIGHTS=PATH. Received: OUTPUT_DIR={cfg.OUTPUT_DIR!r}"
        )
    if not cfg.DATASETS.TEST:
        raise ConfigError(
            "DATASETS.TEST: no datasets to evaluate on; add DATASETS.TEST=[NAME]. Received: DATASETS.TEST=[]"
        )
    return dataclasses.replace(experiment, cfg=cfg.with_values({"MODEL.WEIGHTS": weights}))


def evaluate(experiment: Experiment, folder: Path, submission: bool) -> None:
    """Evaluate `MODEL.WEIGHTS` in this process, which is one process of the run; see `evaluate_experiment`.

    Raises:
        IncompleteEvaluationError: If a dataset is invalid, after the results on the others have been written.
    """
    from dl_lib.evaluation import IncompleteEvaluationError
    from dl_lib.evaluation.report.folder import recorded_config, replaced_folder
    from dl_lib.launch.process_group import warn_without_gpu
    from dl_lib.utils import comm
    from dl_lib.utils.logger import errors_logged, setup_logger

    register_parts(experiment)
    failure: IncompleteEvaluationError | None = None
    with replaced_folder(folder) as written:
        setup_logger(written, rank=comm.get_rank())
        warn_without_gpu(experiment.cfg.MODEL.DEVICE)
        with errors_logged("evaluating"):
            if comm.is_main_process():
                write_config(recorded_config(experiment.cfg), written)
                copy_nets(experiment.net_files, written)
            try:
                _evaluate(experiment.cfg, written, submission=submission)
            except IncompleteEvaluationError as error:
                if not error.results:
                    raise
                failure = error
        setup_logger(rank=comm.get_rank())  # closes the log file, whose folder is renamed
    if comm.is_main_process():
        logging.getLogger(__name__).info("Results: %s", folder.absolute())
    if failure is not None:
        raise failure


def _evaluate(cfg: CfgNode, output_dir: Path, *, submission: bool) -> None:
    from dl_lib.checkpoint import Checkpointer, allowed_keys
    from dl_lib.engine import build_configured_model
    from dl_lib.engine.image_sizes import warn_about_enlarged_images
    from dl_lib.evaluation import evaluate_datasets
    from dl_lib.utils import comm

    if comm.is_main_process():
        warn_about_enlarged_images(cfg, trains=False)
    model = build_configured_model(cfg)
    rest = Checkpointer(model).load(cfg.MODEL.WEIGHTS, **allowed_keys(cfg))
    if cfg.SOLVER.EMA.DECAY and cfg.SOLVER.EMA.EVALUATE:
        _load_ema(model, rest, weights=cfg.MODEL.WEIGHTS)
    evaluate_datasets(cfg, model, output_dir, submission=submission)


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


def _gives_weights(opts: Sequence[str]) -> bool:
    return "MODEL.WEIGHTS" in dict(parse_overrides(opts))


def _last_checkpoint(experiment: Experiment) -> str:
    from torch import nn

    from dl_lib.checkpoint import Checkpointer

    folder = experiment.config_file.parent
    if folder.resolve().parent.name == EVALUATIONS_NAME:
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
