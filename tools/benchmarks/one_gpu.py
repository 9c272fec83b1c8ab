"""Comparison of norms, gradient accumulation and learning rates for few images per forward pass.

Each run leaves one row in the output folder; runs whose row exists are skipped. Run
`python tools/benchmarks/one_gpu.py --help`.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from does_routing_pay import digest
from harness import Settings, in_fresh_process
from report import Report, Table, describe_machine
from routing_plan import ROOT
from routing_rows import MEASURED, Row, RowFile, machines, mean_and_deviation, percent_miou
from routing_training import RunSettings, train_run

from dl_lib.cli.arg_types import comma_separated, comma_separated_ints, local_path, positive_int
from dl_lib.cli.errors import user_errors
from dl_lib.engine.training.non_finite import NonFiniteLossError
from dl_lib.layers import BATCH_NORMS
from dl_lib.utils.files import write_atomically
from dl_lib.utils.names import nearest_names
from dl_lib.utils.run_files import METRICS_NAME

EXPERIMENT = "playground/Photos"
REFERENCE_BATCH = 16  # images per step, to which the base learning rate belongs
BASE_LR = 0.05  # of SGD, for the reference batch
WARMUP_STEPS = 50  # of the reference batch
PRECISE_BN_IMAGES = 512
RECIPE = (  # of Dynamic-Raw: soft gates, no budget, SGD with polynomial decay, precise batch norm
    "MODEL.GATE.KIND=soft",
    "MODEL.BUDGET.CONSTRAIN=False",
    "MODEL.BUDGET.SPREAD=0",
    "SOLVER.OPTIMIZER.NAME=SGD",
    "SOLVER.OPTIMIZER.GATE_LR_MULTI=1",
)
DATA_SET, ROWS_NAME, TABLE_NAME = "one_gpu", "rows.jsonl", "results.md"
COLUMNS = {
    "norm": "",
    "images per pass": "d",
    "passes per step": "d",
    "learning rate": ">s",
    "images": ",d",
    "precise BN": "",
    "training loss": ">s",
    "mIoU (%)": ">s",
    "runs": "d",
}
NOTES = """\
{experiment} with soft gates, without budget, with SGD. Learning rate: relative to {lr}, that of {batch} images per \
step. Training loss: mean over the last tenth of the iterations. Precise BN: running statistics of batch norms are \
recomputed on {precise} images before the evaluation. "diverged": the loss or a gradient was not finite."""


@dataclass(frozen=True)
class Variant:
    """Way to train with few images per forward pass.

    Attributes:
        norm: Norm of backbone and head.
        images: Images per forward pass.
        passes: Forward passes per step (`SOLVER.ACCUMULATION_STEPS`).
        lr: Learning rate, relative to that of the reference batch.
        precise_bn: Whether to recompute the running statistics before the evaluation.
        same_steps: Train for the steps of the reference batch, and hence on fewer images.
    """

    norm: str
    images: int
    passes: int = 1
    lr: float = 1.0
    precise_bn: bool = True
    same_steps: bool = False

    @property
    def name(self) -> str:
        """Unique name, such as `BN-4x4-lr1`."""
        marks = ("" if self.precise_bn else "-running") + ("-same_steps" if self.same_steps else "")
        return f"{self.norm}-{self.images}x{self.passes}-lr{self.lr:g}{marks}"

    @property
    def batch(self) -> int:
        """Images per step."""
        return self.images * self.passes

    @property
    def reference_steps_ratio(self) -> int:
        """Factor by which `same_steps` reduces the images that a run sees."""
        return REFERENCE_BATCH // self.batch if self.same_steps else 1

    @property
    def recomputes(self) -> bool:
        """Return whether running statistics are recomputed; group norm has none."""
        return self.precise_bn and self.norm in BATCH_NORMS

    def settings(self, seed: int, *, images: int, opts: Sequence[str]) -> RunSettings:
        """Return the settings of a run on so many images, or fewer with `same_steps`."""
        per_step = self.batch * self.reference_steps_ratio
        own = (
            f"SEED={seed}",
            f"MODEL.BACKBONE.NORM={self.norm}",
            f"MODEL.SEM_SEG_HEAD.NORM={self.norm}",
            f"SOLVER.IMS_PER_BATCH={self.batch}",
            f"SOLVER.ACCUMULATION_STEPS={self.passes}",
            f"SOLVER.OPTIMIZER.BASE_LR={BASE_LR * self.lr}",
            f"SOLVER.LR_SCHEDULER.MAX_ITER={images // per_step}",
            f"SOLVER.LR_SCHEDULER.WARMUP_ITERS={WARMUP_STEPS * REFERENCE_BATCH // per_step}",
            f"TEST.PRECISE_BN.ENABLED={self.recomputes}",
            f"TEST.PRECISE_BN.NUM_ITER={math.ceil(PRECISE_BN_IMAGES / self.images)}",
        )
        return RunSettings(EXPERIMENT, (*RECIPE, *own, *opts))


VARIANTS = (
    Variant("BN", 16),
    Variant("BN", 4, 4),
    Variant("BN", 2, 8),
    Variant("BN", 2, 8, precise_bn=False),
    Variant("GN", 16),
    Variant("BN", 2, lr=1 / 8),
    Variant("GN", 2, lr=1 / 8),
    Variant("GN", 2),
    Variant("BN", 2),
    Variant("BN", 2, same_steps=True),
    Variant("BN", 1),
)


class Runs:
    """Runs of the variants, and the rows of those that are finished.

    Args:
        rows: File of the rows.
        images: Images that a run sees, see `Variant.settings`.
        seeds: Seeds of each variant.
        opts: Overrides of all runs.
    """

    def __init__(self, rows: RowFile, *, images: int, seeds: Sequence[int], opts: Sequence[str]) -> None:
        self.rows, self.images, self.seeds, self.opts = rows, images, tuple(seeds), tuple(opts)

    def train(self, variants: Sequence[Variant], *, folder: Path, threads: int) -> None:
        """Train the runs that have no row in turn."""
        for seed in self.seeds:
            for variant in variants:
                if self._row(variant, seed) is None:
                    settings = self._settings(variant, seed)
                    measured = measure(settings, folder=folder / variant.name / f"seed{seed}", threads=threads)
                    names = {"data_set": DATA_SET, "variant": variant.name, "seed": seed, "digest": digest(settings)}
                    self.rows.add(names | {**measured})
                    print(f"{variant.name}, seed {seed}: {_score([measured])} % mIoU", flush=True)

    def report(self) -> Report:
        """Return the report of the finished runs."""
        rows = {variant: [r for seed in self.seeds if (r := self._row(variant, seed))] for variant in VARIANTS}
        lines = [self._line(variant, own) for variant, own in rows.items() if own]
        table = Table("Norms, accumulation and learning rates", COLUMNS, lines)
        notes = NOTES.format(experiment=EXPERIMENT, lr=BASE_LR, batch=REFERENCE_BATCH, precise=PRECISE_BN_IMAGES)
        return Report(
            "Few images per forward pass", machines([r for own in rows.values() for r in own]), notes, [table], {}
        )

    def _line(self, variant: Variant, rows: Sequence[Row]) -> tuple[Any, ...]:
        lr = "1" if variant.lr == 1 else f"1/{round(1 / variant.lr)}"
        images = self.images // variant.reference_steps_ratio
        precise = "yes" if variant.recomputes else "no" if variant.norm == "BN" else ""
        losses = [row["final_loss"] for row in rows if "final_loss" in row]
        loss = mean_and_deviation(losses, digits=3) if losses else "-"
        return variant.norm, variant.images, variant.passes, lr, images, precise, loss, _score(rows), len(rows)

    def _settings(self, variant: Variant, seed: int) -> RunSettings:
        return variant.settings(seed, images=self.images, opts=self.opts)

    def _row(self, variant: Variant, seed: int) -> Row | None:
        return self.rows.get(DATA_SET, variant.name, seed, digest(self._settings(variant, seed)))


def measure(settings: RunSettings, *, folder: Path, threads: int) -> Mapping[str, Any]:
    """Train in a new process; return the measurements, without scores if the loss was not finite."""
    try:
        row = in_fresh_process(train_run, settings, folder=folder, root=ROOT, threads=threads)
    except NonFiniteLossError as error:
        return {**dict.fromkeys(sorted(MEASURED)), "error": str(error), "machine": describe_machine(Settings())}
    return {**row, "final_loss": final_loss(folder)}


def final_loss(folder: Path) -> float:
    """Return the mean training loss over the last tenth of the logged iterations."""
    lines = [json.loads(line) for line in (folder / METRICS_NAME).read_bytes().splitlines()]
    losses = [line["loss_sem_seg"] for line in lines if "loss_sem_seg" in line]
    return statistics.mean(losses[-math.ceil(len(losses) / 10) :])


def _score(rows: Sequence[Row]) -> str:
    if any(row["mIoU"] is None for row in rows):
        return "diverged"
    return mean_and_deviation([percent_miou(row) for row in rows], digits=1)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="one_gpu.py",
        description="Compare norms, gradient accumulation and learning rates for few images per forward pass.",
        epilog=f"Variants: {', '.join(variant.name for variant in VARIANTS)}.",
        allow_abbrev=False,
    )
    add, default = parser.add_argument, "(default: %(default)s)"
    add("--output", type=local_path, default=ROOT / "docs" / "one_gpu", metavar="DIR", help="rows and table")
    add("--runs", type=local_path, default=Path("output", "one_gpu"), metavar="DIR", help=f"logs {default}")
    add("--seeds", type=comma_separated_ints, default="0", metavar="N,N", help=f"of each variant {default}")
    add("--images", type=positive_int, default=3200, metavar="N", help=f"that a run sees {default}")
    add("--threads", type=positive_int, default=1, metavar="N", help=f"CPU threads {default}")
    add("--only", type=comma_separated, default=["*"], metavar="PATTERNS", help="of variants to train (default: all)")
    add("opts", nargs="*", metavar="KEY=VALUE", help="overrides of all runs")
    arguments = parser.parse_intermixed_args(argv)
    names = [variant.name for variant in VARIANTS]
    for pattern in arguments.only:
        if not fnmatch.filter(names, pattern):
            parser.error(f"--only must match variants; {nearest_names(pattern, names)}. Received: {pattern}")
    chosen = [v for v in VARIANTS if any(fnmatch.fnmatchcase(v.name, pattern) for pattern in arguments.only)]
    with user_errors(parser.prog):
        rows = RowFile(arguments.output / ROWS_NAME)
        runs = Runs(rows, images=arguments.images, seeds=arguments.seeds, opts=arguments.opts)
        runs.train(chosen, folder=arguments.runs, threads=arguments.threads)
        markdown = runs.report().markdown()
    print(markdown)
    write_atomically(arguments.output / TABLE_NAME, markdown)


if __name__ == "__main__":
    main()
