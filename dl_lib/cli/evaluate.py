"""Subcommand `dl_lib evaluate` (alias `dl_test`): evaluation of a run's last checkpoint or of other weights."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from dl_lib.cli.arguments import experiment_parser, parse_run_arguments
from dl_lib.cli.errors import user_errors
from dl_lib.cli.processes import start_processes
from dl_lib.config import CfgNode, ConfigError, write_config
from dl_lib.experiment.experiment import Experiment, register_parts
from dl_lib.experiment.net_files import copy_nets
from dl_lib.experiment.trained_run import gives_weights, load_trained_model, load_trained_run
from dl_lib.launch import resolve_world_size
from dl_lib.utils.output_path import prepare_folder
from dl_lib.utils.run_files import evaluation_folder

__all__ = ["evaluate", "evaluate_experiment", "main"]


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
    experiment = load_trained_run(arguments.config_file, arguments.opts, world_size=world_size)
    if submission:
        _check_benchmarks(experiment)
    folder = evaluation_folder(experiment.output_dir, evaluation_name(name, dataset_names=experiment.cfg.DATASETS.TEST))
    check_settings(experiment.cfg, folder, weights_are_given=gives_weights(arguments.opts))
    prepare_folder(experiment.output_dir, key="OUTPUT_DIR")
    start_processes(evaluate, arguments, experiment, folder, submission)


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
    from dl_lib.engine.image_sizes import warn_about_enlarged_images
    from dl_lib.evaluation import evaluate_datasets
    from dl_lib.utils import comm

    if comm.is_main_process():
        warn_about_enlarged_images(cfg, trains=False)
    evaluate_datasets(cfg, load_trained_model(cfg), output_dir, submission=submission)


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
