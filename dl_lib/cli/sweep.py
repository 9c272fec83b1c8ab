"""Subcommand `dl_lib sweep`: accuracy, cost and latency of a routed network at several gate thresholds."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from dl_lib.cli.arg_types import comma_separated_ratios
from dl_lib.cli.arguments import parse_run_arguments, trained_run_parser
from dl_lib.cli.errors import user_errors
from dl_lib.cli.processes import start_processes
from dl_lib.config import CfgNode, ConfigError, write_config
from dl_lib.experiment.experiment import Experiment, register_parts
from dl_lib.experiment.net_files import copy_nets
from dl_lib.experiment.trained_run import gives_weights, load_trained_model, load_trained_run
from dl_lib.launch import resolve_world_size
from dl_lib.utils.output_path import prepare_folder
from dl_lib.utils.run_files import sweep_folder

__all__ = ["main", "sweep"]

_THRESHOLDS = [tenth / 10 for tenth in range(10)]
_NOTES = """
thresholds:
  learned gates at or below the threshold are closed. Soft, sigmoid and softmax
  gates are trained with 0. Hard gates, whose values are 0 and 1, are compared by
  the sigmoid of their logit and trained with 0.5. Fixed gates of a route stay open.
"""


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib sweep") -> None:
    """Evaluate at every threshold and write a table and a figure; see `dl_lib sweep --help`."""
    parser = trained_run_parser(
        prog=prog,
        description="Evaluate a routed network at several thresholds of its gates: mIoU, real GFLOPs and measured "
        "latency. Writes tables and a figure to OUTPUT_DIR/sweeps/NAME, with RUN as the default of OUTPUT_DIR.",
        notes=_NOTES,
    )
    parser.add_argument(
        "--thresholds",
        type=comma_separated_ratios,
        default=_THRESHOLDS,
        metavar="T,T,...",
        help="thresholds in [0, 1), such as 0,0.2,0.5 (default: 0 to 0.9 in steps of 0.1)",
    )
    parser.add_argument("--name", metavar="NAME", help="name of the sweep (default: that of its dataset)")
    with user_errors(prog):
        _start(parse_run_arguments(parser, argv))


def _start(arguments: argparse.Namespace) -> None:
    from dl_lib.evaluation.report.folder import check_settings, evaluation_name

    experiment = load_trained_run(
        arguments.run, arguments.opts, option="RUN", world_size=resolve_world_size(arguments.processes)
    )
    _check_config(experiment.cfg)
    folder = sweep_folder(
        experiment.output_dir, evaluation_name(arguments.name, dataset_names=experiment.cfg.DATASETS.TEST)
    )
    check_settings(experiment.cfg, folder, weights_are_given=gives_weights(arguments.opts))
    prepare_folder(experiment.output_dir, key="OUTPUT_DIR")
    start_processes(sweep, arguments, experiment, folder, arguments.thresholds)


def _check_config(cfg: CfgNode) -> None:
    """Check that there is one labelled dataset and that closed gates save time.

    Raises:
        ConfigError: Otherwise.
    """
    from dl_lib.data import DatasetCatalog

    names = cfg.DATASETS.TEST
    if len(names) > 1:
        raise ConfigError(f"--data: a sweep uses one dataset; add --data NAME. Received: DATASETS.TEST={names}")
    if not DatasetCatalog.meta(names[0]).labelled:
        raise ConfigError(
            f"--data: a sweep needs ground truth; choose a labelled dataset. Received: DATASETS.TEST={names}"
        )
    if cfg.TEST.EXECUTION != "sparse":
        raise ConfigError(
            "TEST.EXECUTION must be sparse for a sweep, because otherwise closed gates save no time; add "
            f"TEST.EXECUTION=sparse. Received: TEST.EXECUTION={cfg.TEST.EXECUTION!r}"
        )


def sweep(experiment: Experiment, folder: Path, thresholds: Sequence[float]) -> None:
    """Evaluate at every threshold in this process, which is one process of the command.

    Raises:
        ConfigError: If the network has no learned gates.
        DataError: If the dataset is invalid.
    """
    from dl_lib.evaluation.report.folder import recorded_config, replaced_folder
    from dl_lib.evaluation.report.threshold_sweep import format_sweep, write_sweep
    from dl_lib.evaluation.runner.threshold_sweep import check_gates, sweep_thresholds
    from dl_lib.modeling.build import resolve_device
    from dl_lib.utils import comm
    from dl_lib.utils.environment import measuring_environment
    from dl_lib.utils.logger import errors_logged, setup_logger

    cfg, log = experiment.cfg, logging.getLogger(__name__)
    register_parts(experiment)
    setup_logger(rank=comm.get_rank())
    model = load_trained_model(cfg)
    check_gates(model)
    with replaced_folder(folder) as written:
        setup_logger(written, rank=comm.get_rank())
        with errors_logged("evaluating"):
            result = sweep_thresholds(cfg, model, cfg.DATASETS.TEST[0], thresholds=thresholds)
            if comm.is_main_process():
                log.info("\n%s", format_sweep(result, style="simple"))
                write_config(recorded_config(cfg), written)
                copy_nets(experiment.net_files, written)
                write_sweep(result, written, environment=measuring_environment(resolve_device(cfg.MODEL.DEVICE)))
        setup_logger(rank=comm.get_rank())  # closes the log file, whose folder is renamed
    if comm.is_main_process():
        log.info("Results: %s", folder.absolute())
