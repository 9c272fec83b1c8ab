"""Comparison of the experiments of a playground at equal iterations: parameters, cost, latency and mIoU.

python tools/benchmarks/zoo.py train playground/Quickstart playground/Zoo/Digits.*
python tools/benchmarks/zoo.py table playground/Quickstart playground/Zoo/Digits.* --document docs/zoo/digits.md
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from harness import Case, Run, Settings, benchmark_parser, start, time_cases
from report import Report, Table, describe_machine

from dl_lib.cli.arg_types import comma_separated_ints, comma_separated_sizes, positive_int
from dl_lib.cli.errors import user_errors
from dl_lib.cli.experiment import load_experiment
from dl_lib.config import ConfigError
from dl_lib.modeling import build_model
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP
from dl_lib.utils.allocator import keep_freed_memory
from dl_lib.utils.run_files import RESULTS_NAME

RUNS = Path("output", "zoo")
TRAIN_SCRIPT = Path(__file__).parents[1] / "train_net.py"


@dataclass(frozen=True)
class ExperimentCase(Case):
    """Dense forward pass of an experiment's model, from the normalized image to the coarse logits.

    Attributes:
        folder: Folder of the experiment.
        size: (height, width) of the image in pixels.
    """

    folder: Path
    size: tuple[int, int]

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
        """Build the model, with dense execution so that the cost does not depend on its gates."""
        opts = [f"MODEL.DEVICE={settings.device}", "MODEL.COMPILE=False", "TEST.EXECUTION=dense"]
        return build_model(load_experiment(str(self.folder), opts, purpose="evaluation").cfg).eval()


@dataclass(frozen=True)
class Entry:
    """One line of the table.

    Attributes:
        name: Name of the experiment.
        parameters: Number of learned values.
        gflops: 1e9 multiply-adds of an image, dense.
        seconds: Median latency.
        scores: mIoU of the finished runs.
    """

    name: str
    parameters: int
    gflops: float
    seconds: float
    scores: Sequence[float]


def train(arguments: argparse.Namespace) -> None:
    """Train each experiment once per seed, one process after the other; finished runs are skipped.

    Raises:
        ConfigError: If a run fails.
    """
    for seed in arguments.seeds:
        for experiment in arguments.experiments:
            folder = arguments.runs / f"{experiment.resolve().name}-seed{seed}"
            if (folder / RESULTS_NAME).is_file():
                continue
            command = [sys.executable, str(TRAIN_SCRIPT), "--config-file", str(experiment), f"SEED={seed}"]
            command += [f"OUTPUT_DIR={folder}", f"SOLVER.LR_SCHEDULER.MAX_ITER={arguments.iterations}"]
            if status := subprocess.run(command, check=False).returncode:
                raise ConfigError(f"Training failed with status {status}; see its output. Received: {folder}")
    print("Every run is finished; zoo.py table reads their results")


def read_scores(folders: Sequence[Path]) -> list[float]:
    """Return the mIoU of finished runs, each on its only data set.

    Raises:
        ConfigError: If the results of a folder cannot be read.
    """
    scores = []
    for folder in folders:
        try:
            (values,) = json.loads((folder / RESULTS_NAME).read_bytes())["datasets"].values()
            scores.append(float(values["mIoU"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(
                f"{RESULTS_NAME} must hold the mIoU on one data set; evaluate the run again or remove its folder. "
                f"Received: {str(folder)!r} ({type(error).__name__}: {error})"
            ) from error
    return scores


def table(arguments: argparse.Namespace, settings: Settings) -> tuple[Report, list[Entry]]:
    """Measure the experiments and collect the scores of their runs."""
    (size,) = arguments.size
    keeps_memory = settings.device == "cpu" and keep_freed_memory()
    cases = [ExperimentCase(folder, size) for folder in arguments.experiments]
    scores = {case.name: read_scores(sorted(arguments.runs.glob(f"{case.name}-seed*"))) for case in cases}
    parameters = {case.name: sum(p.numel() for p in case.build(settings).parameters()) for case in cases}
    timings = time_cases(cases, settings, rounds=arguments.repeats)
    entries = [
        Entry(name, parameters[name], timing.gflops, timing.median_seconds, scores[name])
        for name, timing in timings.items()
    ]
    facts = describe_machine(settings.device)
    if keeps_memory:
        facts["allocator"] = "keeps freed memory, as in evaluation runs"
    notes = (
        f"Seconds: median of {arguments.repeats} interleaved dense forward passes, from the normalized image to the "
        "coarse logits. GFLOPs: 1e9 multiply-adds of that. mIoU: mean and standard deviation of the runs."
    )
    samples = {name: timing.seconds for name, timing in timings.items()}
    return Report("Zoo", facts, notes, [zoo_table(entries, size=size)], samples), entries


def zoo_table(entries: Sequence[Entry], *, size: tuple[int, int]) -> Table:
    """Return one row per experiment; a dash marks one without runs."""
    columns = {"experiment": "", "parameters": ",", "GFLOPs at {}x{}".format(*size): ".3f", "seconds": ".3f"}
    rows = []
    for entry in entries:
        percent = [100 * score for score in entry.scores]
        mean = f"{statistics.mean(percent):.2f}" if percent else "-"
        if len(percent) > 1:
            mean += f" ± {statistics.stdev(percent):.2f}"
        runs = str(len(percent) or "-")
        rows.append((entry.name, entry.parameters, entry.gflops, entry.seconds, mean, runs))
    return Table("Experiments", columns | {"mIoU (%)": ">s", "runs": ">s"}, rows)


def save_figure(entries: Sequence[Entry], path: Path, *, size: tuple[int, int]) -> None:
    """Draw scores, cost and latency, in the format of the path's suffix."""
    from dl_lib.visualization.zoo import draw_zoo

    columns = {
        "mIoU of the runs (%)": [[100 * score for score in entry.scores] for entry in entries],
        "GFLOPs at {}x{}".format(*size): [[entry.gflops] for entry in entries],
        "Seconds on the CPU": [[entry.seconds] for entry in entries],
    }
    draw_zoo([entry.name for entry in entries], columns=columns).savefig(path)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="zoo.py", description=__doc__.partition("\n")[0], allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="{train,table}")
    train_parser = commands.add_parser("train", help="train each experiment once per seed; finished runs are skipped")
    shared = benchmark_parser("zoo.py table", description="Measure the experiments.", repeats=3, add_help=False)
    table_parser = commands.add_parser("table", parents=[shared], help="parameters, cost, latency and scores")
    for command in (train_parser, table_parser):
        command.add_argument("experiments", nargs="+", type=Path, metavar="EXPERIMENT", help="folder of a playground")
        command.add_argument("--runs", type=Path, default=RUNS, metavar="DIR", help="(default: %(default)s)")
    add = train_parser.add_argument
    add("--seeds", type=comma_separated_ints, default="0,1,2", metavar="N,N", help="(default: %(default)s)")
    add("--iterations", type=positive_int, default=400, metavar="N", help="(default: %(default)s)")
    add = table_parser.add_argument
    add("--size", type=comma_separated_sizes, default="1024x2048", metavar="HxW", help="(default: %(default)s)")
    add("--figure", type=Path, metavar="FILE", help="also draw scores, cost and latency there (PNG, SVG or PDF)")
    arguments = parser.parse_args(argv)
    with user_errors(parser.prog):
        if arguments.command == "train":
            train(arguments)
            return
        report, entries = table(arguments, start(table_parser, arguments))
        if arguments.figure is not None:
            save_figure(entries, arguments.figure, size=arguments.size[0])
    report.write(arguments.output, "zoo", document=arguments.document)


if __name__ == "__main__":
    main()
