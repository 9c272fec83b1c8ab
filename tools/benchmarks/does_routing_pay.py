"""Comparison of routed networks with fixed routes, narrower networks and common networks.

Each run leaves one row in the output folder; runs whose row exists are skipped, so that the benchmark can be resumed
in a new checkout. Run `python tools/benchmarks/does_routing_pay.py --help`.
"""

from __future__ import annotations

import argparse
import fnmatch
import functools
import hashlib
import importlib.util
import json
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from fixed_routes import UnavailableError
from harness import Settings, in_fresh_process
from report import Report, describe_machine
from routing_plan import DATA_SETS, MIDDLE, ROOT, SMP_GROUP, Request, Row, Variant, real_gflops, variants
from routing_rows import RowFile, figure_series, lines_of, machines, percent_miou, summary_table
from routing_training import RunSettings, load_config, train_run

from dl_lib.cli.arg_types import comma_separated, comma_separated_ints, local_path, positive_float, positive_int
from dl_lib.cli.errors import user_errors
from dl_lib.config import ConfigError, get_cfg
from dl_lib.utils.files import write_atomically
from dl_lib.utils.names import nearest_names
from dl_lib.utils.progress import progress_bar
from dl_lib.visualization.figure import save_figure
from dl_lib.visualization.tradeoff import draw_tradeoff

ITERATIONS = 1000  # of the networks in the routing space; all runs take less than 4 hours on 2 cores
JOBS = "runs at once"  # fact about a machine
ROWS_NAME, TABLE_NAME, FIGURE_NAME = "rows.jsonl", "results.md", "results.png"
NOTES = """\
mIoU and GFLOPs: mean and standard deviation over the runs. GFLOPs: 1e9 multiply-adds per validation image of all \
modules that run, gates included. Routes: different sets of open edges on the validation images; image-dependent \
edges: fraction of the edges open for any image that are not open for all. Difference: mIoU minus that of the hard \
gates with the nearest mean cost, paired by seed. Parameters: those that receive gradients. The networks of \
segmentation_models_pytorch train for the median time of the hard gates at the middle budget."""


@dataclass(frozen=True)
class Run:
    """Training run of a variant on a data set."""

    data_set: str
    variant: Variant
    seed: int

    @property
    def name(self) -> str:
        return f"{self.data_set}/{self.variant.name}/seed{self.seed}"


class Benchmark:
    """All runs, and the rows of those that are finished.

    Args:
        rows: File of the rows.
        seeds: Seeds of each variant.
        opts: Overrides of all runs.
        smp_lr: Learning rate of the networks of segmentation_models_pytorch, instead of `SMP_LR`.
    """

    def __init__(self, rows: RowFile, *, seeds: Sequence[int], opts: Sequence[str], smp_lr: float | None) -> None:
        self.rows, self.seeds, self.opts, self.smp_lr = rows, tuple(seeds), tuple(opts), smp_lr
        self.variants = variants()
        self.runs = [Run(d, variant, seed) for variant in self.variants for d in variant.data_sets for seed in seeds]

    def settings(self, run: Run) -> RunSettings:
        """Return the settings of a run.

        Raises:
            UnavailableError: If a run that it depends on is not finished, or there is no random route.
        """
        find_row = functools.partial(self._find_row, run)
        request = Request(run.data_set, run.seed, self.seeds, self.opts, self.smp_lr, find_row)
        return run.variant.make_settings(request)

    def row(self, run: Run) -> Row | None:
        """Return the row of a run with the current settings, if there is one; raises like `settings`."""
        return self.rows.get(run.data_set, run.variant.name, run.seed, digest(self.settings(run)))

    def finished_rows(self, data_set: str) -> Iterator[Row]:
        """Yield the rows of a data set with the current settings."""
        for run in self.runs:
            with suppress(UnavailableError):
                if run.data_set == data_set and (row := self.row(run)) is not None:
                    yield row

    def state(self, run: Run) -> str:
        """Return an empty text for a finished run, otherwise the reason why it has no row."""
        try:
            return "" if self.row(run) is not None else "pending"
        except UnavailableError as error:
            return str(error)

    def measure(self, run: Run, *, folder: Path, jobs: int, threads: int) -> Row:
        """Train a run, one of `jobs` at once, in a new process and return its row."""
        settings = self.settings(run)
        if settings.training_seconds is not None:
            self._check_machine(run, jobs=jobs, threads=threads)
        measured = in_fresh_process(train_run, settings, folder=folder / run.name, root=ROOT, threads=threads)
        names = {"data_set": run.data_set, "variant": run.variant.name, "seed": run.seed}
        machine = {**measured["machine"], JOBS: str(jobs)}
        return {**names, "digest": digest(settings), "settings": settings.as_dict(), **measured, "machine": machine}

    def _check_machine(self, run: Run, *, jobs: int, threads: int) -> None:
        """Raise ConfigError if the training time that a run must have was measured under other conditions."""
        here = {"CPU": describe_machine(Settings())["CPU"], "threads": str(threads), JOBS: str(jobs)}
        for seed in self.seeds:
            machine = self._find_row(run, MIDDLE, seed)["machine"]
            if changed := [
                f"{name}={machine[name]!r}, now {here[name]!r}" for name in here if machine[name] != here[name]
            ]:
                raise ConfigError(
                    f"{run.name}: its training time was measured under other conditions; restore them, or remove the "
                    f"rows of {MIDDLE} to measure it under these. Received: {', '.join(changed)}"
                )

    def _find_row(self, dependent: Run, variant: str, seed: int) -> Row:
        (run,) = (r for r in self.runs if (r.data_set, r.variant.name, r.seed) == (dependent.data_set, variant, seed))
        row = self.row(run)
        if row is None:
            raise UnavailableError(f"requires {run.name}")
        return row


@functools.cache
def digest(settings: RunSettings) -> str:
    """Return a digest of everything that settings and experiment change in the default config."""
    defaults, cfg = get_cfg().flat(), load_config(replace(settings, route=None), root=ROOT)  # the route is in `values`
    changed = {key: value for key, value in cfg.flat().items() if value != defaults[key]}
    values = settings.as_dict() | {"opts": {key: changed[key] for key in sorted(changed) if key != "OUTPUT_DIR"}}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def train_pending(benchmark: Benchmark, runs: Sequence[Run], *, folder: Path, jobs: int, threads: int) -> list[str]:
    """Train the runs that have no row, `jobs` at once; print progress and return the problems of runs that fail."""
    waiting = [run for run in runs if benchmark.state(run)]
    if any(run.variant.group == SMP_GROUP for run in waiting):
        _require_smp()
    start, number, problems = time.monotonic(), len(waiting), []
    with progress_bar(len(runs), description="runs", unit="run", done=len(runs) - number) as bar:
        results = _finished(benchmark, waiting, folder=folder, jobs=jobs, threads=threads)
        for done, (run, result) in enumerate(results, 1):
            if isinstance(result, BaseException):  # other runs do not depend on it, or wait for it
                text = f"failed: {result!r}"
                problems.append(f"{run.name} {text}")
            else:
                benchmark.rows.add(result)
                text = _result_text(result)
            remaining = timedelta(seconds=round((time.monotonic() - start) / done * (number - done)))
            bar.write(f"[{len(runs) - number + done}/{len(runs)}] {run.name}: {text}; about {remaining} remaining")
            bar.update()
    return problems + [f"{run.name} {benchmark.state(run)}" for run in waiting]


def _finished(
    benchmark: Benchmark, waiting: list[Run], *, folder: Path, jobs: int, threads: int
) -> Iterator[tuple[Run, Row | BaseException]]:
    """Train runs as soon as those that they depend on have rows; yield each with its row or its error.

    The caller adds the rows to the benchmark. Runs that are still in `waiting` at the end cannot be trained.
    """
    running: dict[Future[Row], Run] = {}
    with ThreadPoolExecutor(jobs) as pool:
        while True:
            ready = [run for run in waiting if benchmark.state(run) == "pending"]
            for run in ready[: jobs - len(running)]:
                waiting.remove(run)
                running[pool.submit(benchmark.measure, run, folder=folder, jobs=jobs, threads=threads)] = run
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.exception() or future.result()


def _result_text(row: Row) -> str:
    scores = f"{percent_miou(row):.2f} % mIoU at {real_gflops(row):.4f} GFLOPs"
    return f"{scores}, trained for {row['training_seconds']:.0f} s"


def write_summary(benchmark: Benchmark, folder: Path) -> None:
    """Write the table and the figure of all finished runs."""
    rows = {name: list(benchmark.finished_rows(name)) for name in DATA_SETS}
    lines = {name: lines_of(own, benchmark.variants) for name, own in rows.items() if own}
    if not lines:
        return
    facts: dict[str, Any] = machines([row for own in rows.values() for row in own]) | {
        "settings": " ".join(benchmark.opts)
    }
    tables = [summary_table(name.capitalize(), own) for name, own in lines.items()]
    report = Report("Does routing pay?", facts, NOTES, tables, {})
    print(report.markdown())
    write_atomically(folder / TABLE_NAME, report.markdown())
    panels = {name.capitalize(): figure_series(own) for name, own in lines.items()}
    figure = draw_tradeoff(panels, cost="GFLOPs per image, all modules that run", score="mIoU (%)")
    save_figure(figure, folder / FIGURE_NAME)
    print(f"Wrote {TABLE_NAME} and {FIGURE_NAME} to {folder.absolute()}")


def _require_smp() -> None:
    if importlib.util.find_spec("segmentation_models_pytorch") is None:
        raise ConfigError(
            "segmentation_models_pytorch is required but not installed; install it with pip install 'dl_lib[test]', or "
            "choose other runs with --only. Received: segmentation_models_pytorch=None"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="does_routing_pay.py",
        description="Compare routed networks with fixed routes, narrower networks and common networks.",
        epilog=f"Runs are named DATA_SET/VARIANT/seedN, with the data sets {', '.join(DATA_SETS)} and the variants "
        f"{', '.join(variant.name for variant in variants())}.",
        allow_abbrev=False,
    )
    add, default = parser.add_argument, "(default: %(default)s)"
    add("--output", type=local_path, default=ROOT / "docs" / "routing_pays", metavar="DIR", help="rows, table, figure")
    add("--runs", type=local_path, default=Path("output", "routing_pays"), metavar="DIR", help=f"logs {default}")
    add("--seeds", type=comma_separated_ints, default="0,1,2", metavar="N,N", help=f"of each network {default}")
    add(
        "--iterations",
        type=positive_int,
        default=ITERATIONS,
        metavar="N",
        help=f"of networks in the routing space {default}",
    )
    add("--lr", type=positive_float, metavar="LR", help="learning rate of segmentation_models_pytorch's networks")
    add("--jobs", type=positive_int, default=2, metavar="N", help=f"runs at once {default}")
    add("--threads", type=positive_int, default=1, metavar="N", help=f"CPU threads of each run {default}")
    add("--only", type=comma_separated, default=["*"], metavar="PATTERNS", help="patterns of names (default: all runs)")
    add("--list", action="store_true", help="list the runs and their state, and exit")
    add("opts", nargs="*", metavar="KEY=VALUE", help="overrides of all runs")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = _parser()
    arguments = parser.parse_intermixed_args(argv)
    with user_errors(parser.prog):
        benchmark = Benchmark(
            RowFile(arguments.output / ROWS_NAME),
            seeds=arguments.seeds,
            opts=[f"SOLVER.LR_SCHEDULER.MAX_ITER={arguments.iterations}", *arguments.opts],
            smp_lr=arguments.lr,
        )
        names = [run.name for run in benchmark.runs]
        for pattern in arguments.only:
            if not fnmatch.filter(names, pattern):
                parser.error(f"--only must match names of runs; {nearest_names(pattern, names)}. Received: {pattern}")
        runs = [r for r in benchmark.runs if any(fnmatch.fnmatchcase(r.name, p) for p in arguments.only)]
        if arguments.list:
            print("\n".join(f"{run.name}: {benchmark.state(run) or 'finished'}" for run in runs))
            return
        problems = train_pending(benchmark, runs, folder=arguments.runs, jobs=arguments.jobs, threads=arguments.threads)
        write_summary(benchmark, arguments.output)
        if problems:
            raise ConfigError(
                "some runs failed or cannot be trained yet; see the logs in their folders, and repeat the command. "
                f"Received: runs={'; '.join(problems)}"
            )


if __name__ == "__main__":
    main()
