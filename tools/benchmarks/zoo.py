"""Comparison of the experiments of a playground at equal iterations: parameters, cost, latency and mIoU.

Run `python tools/benchmarks/zoo.py train --help` and `python tools/benchmarks/zoo.py table --help`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from harness import Case, Run, Settings, Timing, benchmark_parser, start, time_cases
from report import Report, Table, describe_machine

from dl_lib.cli.arg_types import comma_separated_ints, comma_separated_sizes, positive_int
from dl_lib.cli.errors import user_errors
from dl_lib.config import ConfigError
from dl_lib.experiment.experiment import load_experiment
from dl_lib.modeling import build_model
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP
from dl_lib.utils.run_files import RESULTS_NAME

TRAIN_SCRIPT = Path(__file__).parents[1] / "train_net.py"
NOTES = """\
Seconds: median of {rounds} interleaved dense forward passes, from the normalized image to the coarse logits. GFLOPs: \
1e9 multiply-adds of that. mIoU: mean and standard deviation of the runs; a dash where there are none."""

Scores = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class ExperimentCase(Case):
    """Forward pass of an experiment's model, dense so that its cost does not depend on the gates."""

    folder: Path
    size: tuple[int, int]  # (height, width) of the image in pixels

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def group(self) -> str:
        return "{}x{}".format(*self.size)

    def prepare(self, settings: Settings) -> Run:
        model = self.build(settings)
        batch = torch.randn(1, 3, *self.size, device=settings.device)

        def run() -> float:
            with torch.inference_mode():
                output = model.run(batch, step_rate=0.0)
            return output.costs.executed.item() / MADDS_PER_GFLOP

        return run

    def build(self, settings: Settings) -> torch.nn.Module:
        """Build the model in evaluation mode."""
        opts = [f"MODEL.DEVICE={settings.device}", "MODEL.COMPILE=False", "TEST.EXECUTION=dense"]
        return build_model(load_experiment(str(self.folder), opts, purpose="evaluation").cfg).eval()


def train(experiments: Sequence[Path], *, runs: Path, seeds: Sequence[int], iterations: int) -> None:
    """Train each experiment once per seed, one process after the other; finished runs are skipped."""
    for seed in seeds:
        for experiment in experiments:
            folder = runs / f"{experiment.resolve().name}-seed{seed}"
            if (folder / RESULTS_NAME).is_file():
                continue
            command = [sys.executable, str(TRAIN_SCRIPT), "--config-file", str(experiment), f"SEED={seed}"]
            command += [f"OUTPUT_DIR={folder}", f"SOLVER.LR_SCHEDULER.MAX_ITER={iterations}"]
            if status := subprocess.run(command, check=False).returncode:
                raise ConfigError(f"the training run failed with status {status}; see its output. Received: {folder}")
    print("Every run is finished; zoo.py table reads their results")


def read_scores(folders: Sequence[Path]) -> list[float]:
    """Return the mIoU of finished runs, each on its only dataset."""
    scores = []
    for folder in folders:
        try:
            (values,) = json.loads((folder / RESULTS_NAME).read_bytes())["datasets"].values()
            scores.append(float(values["mIoU"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{RESULTS_NAME} must contain the mIoU of exactly one dataset; evaluate the run again or remove its "
                f"folder. Received: {str(folder)!r} ({type(error).__name__}: {error})"
            ) from error
    return scores


def zoo_table(
    timings: Mapping[str, Timing], *, parameters: Mapping[str, int], scores: Scores, size: tuple[int, int]
) -> Table:
    """Return one row per experiment."""
    rows = []
    for name, timing in timings.items():
        percent = [100 * score for score in scores[name]]
        mean = f"{statistics.mean(percent):.2f}" if percent else "-"
        if len(percent) > 1:
            mean += f" ± {statistics.stdev(percent):.2f}"
        rows.append((name, parameters[name], timing.gflops, timing.median_seconds, mean, str(len(percent) or "-")))
    columns = {"experiment": "", "parameters": ",", "GFLOPs at {}x{}".format(*size): ".3f", "seconds": ".3f"}
    return Table("Experiments", columns | {"mIoU (%)": ">s", "runs": ">s"}, rows)


def save_zoo_figure(path: Path, timings: Mapping[str, Timing], *, scores: Scores, size: tuple[int, int]) -> None:
    """Draw scores, cost and latency, in the format of the path's suffix."""
    from dl_lib.visualization.figure import save_figure
    from dl_lib.visualization.zoo import draw_zoo

    columns = {
        "mIoU of the runs (%)": [[100 * score for score in scores[name]] for name in timings],
        "GFLOPs at {}x{}".format(*size): [[timing.gflops] for timing in timings.values()],
        "Seconds": [[timing.median_seconds] for timing in timings.values()],
    }
    save_figure(draw_zoo(list(timings), columns=columns), path)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="zoo.py", description="Compare experiments.", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="{train,table}")
    train_parser = commands.add_parser("train", help="train each experiment once per seed; finished runs are skipped")
    shared = benchmark_parser("zoo.py table", description="Measure the experiments.", repeats=3, add_help=False)
    table_parser = commands.add_parser("table", parents=[shared], help="parameters, cost, latency and scores")
    for command in (train_parser, table_parser):
        add = command.add_argument
        add("experiments", nargs="+", type=Path, metavar="EXPERIMENT", help="folder of a playground")
        add("--runs", type=Path, default=Path("output", "zoo"), metavar="DIR", help="(default: %(default)s)")
    add = train_parser.add_argument
    add("--seeds", type=comma_separated_ints, default="0,1,2", metavar="N,N", help="(default: %(default)s)")
    add("--iterations", type=positive_int, default=400, metavar="N", help="(default: %(default)s)")
    add = table_parser.add_argument
    add("--size", type=comma_separated_sizes, default="1024x2048", metavar="HxW", help="(default: %(default)s)")
    add("--figure", type=Path, metavar="FILE", help="also draw scores, cost and latency there (PNG, SVG or PDF)")
    arguments = parser.parse_args(argv)
    with user_errors(parser.prog):
        if arguments.command == "train":
            train(arguments.experiments, runs=arguments.runs, seeds=arguments.seeds, iterations=arguments.iterations)
            return
        settings, size = start(arguments), arguments.size[0]
        cases = [ExperimentCase(folder, size) for folder in arguments.experiments]
        scores = {case.name: read_scores(sorted(arguments.runs.glob(f"{case.name}-seed*"))) for case in cases}
        parameters = {case.name: sum(p.numel() for p in case.build(settings).parameters()) for case in cases}
        timings = time_cases(cases, settings, rounds=arguments.repeats)
        table = zoo_table(timings, parameters=parameters, scores=scores, size=size)
        if arguments.figure is not None:
            save_zoo_figure(arguments.figure, timings, scores=scores, size=size)
    samples = {name: timing.seconds for name, timing in timings.items()}
    report = Report("Zoo", describe_machine(settings), NOTES.format(rounds=arguments.repeats), [table], samples)
    report.write(arguments.output, "zoo", document=arguments.document)


if __name__ == "__main__":
    main()
