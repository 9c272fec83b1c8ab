"""Networks that hold a route of a trained run: their construction and their run folder."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dl_lib.cli.arg_types import local_path
from dl_lib.cli.arguments import parse_arguments
from dl_lib.cli.given_routes import build_network, with_route
from dl_lib.config import CfgNode, ConfigError, write_config
from dl_lib.experiment.experiment import Experiment
from dl_lib.experiment.net_files import copy_nets
from dl_lib.experiment.trained_run import load_trained_model, load_trained_run
from dl_lib.utils.files import write_atomically
from dl_lib.utils.output_path import prepare_folder
from dl_lib.utils.run_files import FINAL_CHECKPOINT, ROUTE_NAME

if TYPE_CHECKING:
    from torch import Tensor

    from dl_lib.evaluation.scores.network_comparison import NetworkComparison
    from dl_lib.modeling import DynamicNet4Seg
    from dl_lib.modeling.dynamic.route import Route

__all__ = ["RoutedRun", "parse_route_arguments"]


def parse_route_arguments(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, *, suffix: str
) -> argparse.Namespace:
    """Parse the options of a command that makes a network of a route, with overrides in `opts`.

    Args:
        parser: Result of `trained_run_parser`.
        argv: Command-line arguments; None reads those of the process.
        suffix: Appended to the name of the run folder for the default of the new one.
    """
    parser.add_argument("--output", type=local_path, metavar="DIR", help=f"new run folder (default: RUN_{suffix})")
    return parse_arguments(parser, argv)


@dataclass(frozen=True)
class RoutedRun:
    """Trained run of a network with learned gates, and the new run folder for a route of it.

    Attributes:
        experiment: Run with its weights.
        model: Its network.
        dataset_name: Dataset to evaluate on.
        folder: New run folder, which does not exist or is empty.
    """

    experiment: Experiment
    model: DynamicNet4Seg
    dataset_name: str
    folder: Path

    @classmethod
    def load(cls, arguments: argparse.Namespace, *, suffix: str) -> RoutedRun:
        """Load the run named on the command line.

        Args:
            arguments: Result of `parse_route_arguments`.
            suffix: Appended to the name of the run folder for the default of the new one.

        Raises:
            ConfigError: If the run has no weights or no learned gates, its evaluation runs several passes per image,
                or the dataset or the new folder cannot be used.
            OutputPathError: If the new folder cannot be written.
        """
        experiment = load_trained_run(arguments.run, arguments.opts, option="RUN")
        from dl_lib.evaluation.runner.network_comparison import check_single_pass
        from dl_lib.evaluation.runner.threshold_sweep import check_gates
        from dl_lib.modeling import DynamicNet4Seg
        from dl_lib.utils.logger import setup_logger

        check_single_pass(experiment.cfg)
        dataset_name = _dataset_name(experiment.cfg, given=arguments.data)
        run_folder = experiment.output_dir.resolve()
        # Not the link to a folder, nor `.`, which has no name: the folder is written next to its place, then renamed.
        folder = Path(os.path.realpath(arguments.output or run_folder.with_name(f"{run_folder.name}_{suffix}")))
        _check_unused(folder)
        prepare_folder(folder.parent, key="--output")
        setup_logger()
        model = load_trained_model(experiment.cfg)
        check_gates(model)
        assert isinstance(model, DynamicNet4Seg), "it has a backbone with gates"
        return cls(experiment, model, dataset_name, folder)

    def gates(self) -> Tensor:
        """Return the gates of all images of the dataset, float64 (images, edges)."""
        from dl_lib.evaluation.runner.network_comparison import image_gates

        return image_gates(self.experiment.cfg, self.model, dataset_name=self.dataset_name)

    def compare(self, route: Route) -> tuple[DynamicNet4Seg, NetworkComparison]:
        """Build the network that holds only a route, with the weights of the run, and compare it with the run's.

        Raises:
            ConfigError: If the network of the run lacks a part of the route.
        """
        from dl_lib.evaluation.runner.network_comparison import compare_networks

        network = build_network(self.experiment.cfg, self.model, route)
        comparison = compare_networks(self.experiment.cfg, self.model, network, dataset_name=self.dataset_name)
        return network, comparison

    def write(self, network: DynamicNet4Seg, comparison: NetworkComparison, *, title: str) -> None:
        """Write the run folder of a network.

        Raises:
            ConfigError: If the folder has been created by another process in the meantime.
            OutputPathError: If it cannot be written.
        """
        from dl_lib.evaluation import write_report
        from dl_lib.evaluation.report.folder import replaced_folder
        from dl_lib.evaluation.report.network_comparison import format_comparison, write_comparison
        from dl_lib.utils.environment import measuring_environment

        route = network.backbone.route
        cfg = self._config(route)
        with replaced_folder(self.folder, key="--output") as written:
            _check_unused(self.folder)
            write_config(cfg, written)
            copy_nets(self.experiment.net_files, written)
            _save_weights(cfg, network, written)
            write_atomically(written / ROUTE_NAME, route.to_json())
            after = comparison.after
            write_report(
                {self.dataset_name: after.result},
                output_dir=written,
                targets={},
                shown={},
                route=route,
                parameters=after.parameters,
            )
            write_comparison(comparison, written, title=title, environment=measuring_environment(network.device))
        print(f"{format_comparison(comparison, style='simple')}\n\nWrote run folder {self.folder.absolute()}")

    def _config(self, route: Route) -> CfgNode:
        """Return the config of the run with a route, whose weights are the checkpoint of the folder."""
        return with_route(self.experiment.cfg, route).with_values({"OUTPUT_DIR": os.fspath(self.folder.absolute())})


def _dataset_name(cfg: CfgNode, *, given: str | None) -> str:
    """Return the dataset given by `--data`, by default that of `DATASETS.TEST`."""
    names = cfg.DATASETS.TEST
    if given is not None:
        from dl_lib.validation import validate_config

        try:
            validate_config(cfg.with_values({"DATASETS.TEST": [given]}), purpose="evaluation")
        except ConfigError as error:
            raise ConfigError(f"--data: {error}") from error
        return given
    if len(names) > 1:
        raise ConfigError(f"--data: choose one dataset with --data NAME. Received: DATASETS.TEST={names}")
    return str(names[0])


def _check_unused(folder: Path) -> None:
    """Check that a folder is missing, or empty and not the current one, which cannot be replaced under a shell."""
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir()) and folder != Path.cwd()):
        raise ConfigError(
            "--output: this folder exists and is not replaced; choose another one (--output DIR), or remove it. "
            f"Received: folder={os.fspath(folder)!r}"
        )


def _save_weights(cfg: CfgNode, network: DynamicNet4Seg, folder: Path) -> None:
    """Save the weights as the final checkpoint, also as EMA weights if the run evaluates these."""
    from dl_lib.checkpoint import Checkpointer
    from dl_lib.engine.training.ema import ModelEMA

    decay = cfg.SOLVER.EMA.DECAY
    parts: dict[str, Any] = {"ema": ModelEMA(network, decay=decay)} if decay else {}
    Checkpointer(network, folder, config=cfg.flat(), **parts).save(FINAL_CHECKPOINT)
