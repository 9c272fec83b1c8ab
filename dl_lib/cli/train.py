"""Subcommand `dl_lib train` (alias `dl_train`): training of an experiment."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Sequence

from dl_lib.cli.arguments import experiment_parser, parse_run_arguments
from dl_lib.cli.errors import user_errors
from dl_lib.cli.evaluate import evaluate_experiment
from dl_lib.cli.processes import start_processes
from dl_lib.experiment.experiment import (
    Experiment,
    check_run_folder,
    check_weights,
    keep_crop,
    load_experiment,
    register_parts,
)
from dl_lib.experiment.net_files import copy_nets
from dl_lib.launch import resolve_world_size
from dl_lib.utils.run_files import LAST_CHECKPOINT_NAME

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_train") -> None:
    """Train an experiment, or evaluate it with `--eval-only`; see `dl_lib train --help`."""
    parser = experiment_parser(
        prog=prog,
        description="Train the experiment of the current folder or of --config-file. Results go to OUTPUT_DIR "
        "(default: ./output/EXPERIMENT).",
    )
    parser.add_argument(
        "--resume", action="store_true", help="resume from the last checkpoint in OUTPUT_DIR, if there is one"
    )
    parser.add_argument("--eval-only", action="store_true", help="do not train; evaluate as dl_lib evaluate does")
    with user_errors(prog):
        arguments = parse_run_arguments(parser, argv)
        if arguments.eval_only:
            evaluate_experiment(arguments, name=None, submission=False)
        else:
            _train_experiment(arguments)


def train(experiment: Experiment, resume: bool) -> None:
    """Train in this process, which is one process of the run; `resume` continues from its last checkpoint, if any."""
    from dl_lib.engine import DefaultTrainer, default_setup
    from dl_lib.utils import comm
    from dl_lib.utils.folder_lock import check_present, locked_folder
    from dl_lib.utils.logger import errors_logged

    register_parts(experiment)
    with locked_folder(experiment.output_dir):
        default_setup(experiment.cfg)
        with errors_logged("setting up training"):
            trainer = DefaultTrainer(experiment.cfg)
            trainer.resume_or_load(resume=resume)
        if comm.is_main_process():
            copy_nets(experiment.net_files, experiment.output_dir)
        check_present(experiment.output_dir)
        trainer.train()
        check_present(experiment.output_dir)
    if comm.is_main_process():
        logging.getLogger(__name__).info("Run folder: %s", experiment.output_dir.absolute())


def _train_experiment(arguments: argparse.Namespace) -> None:
    world_size = resolve_world_size(arguments.processes)
    experiment = load_experiment(arguments.config_file, arguments.opts, world_size=world_size)
    check_run_folder(experiment)
    if arguments.resume and os.path.isfile(experiment.output_dir / LAST_CHECKPOINT_NAME):
        experiment = keep_crop(experiment, experiment.output_dir)
    else:
        check_weights(experiment)
    start_processes(train, arguments, experiment, arguments.resume)
