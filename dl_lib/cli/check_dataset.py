"""`dl_lib check-dataset NAME`: whether a data set is fit to train on, and how its classes are spread."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from tabulate import tabulate

from dl_lib.cli.arg_types import non_negative_int
from dl_lib.cli.dataset_arguments import dataset_parser, read_dataset_config
from dl_lib.cli.errors import user_errors

if TYPE_CHECKING:
    from dl_lib.data.dataset_check import DatasetReport, Issue, SampleCheck

__all__ = ["main"]

UNFIT_STATUS = 1
_SHOWN = 10  # issues of one kind that are printed


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib check-dataset") -> None:
    """Read every sample; print what is wrong, the pixels of each class, and weights that would balance them."""
    parser = dataset_parser(
        prog=prog,
        description="Read every sample of a data set, and print what has no partner, cannot be read or holds ids that "
        "are no class, the pixels of each class, and weights that would balance them. "
        "Ends with status 0 if the data set is fit to train on, with 1 if it is not.",
    )
    parser.add_argument(
        "--workers", type=non_negative_int, default=2, metavar="N", help="processes that read (default: 2)"
    )
    parser.add_argument("--all", action="store_true", help=f"print all issues, not the first {_SHOWN} of each kind")
    arguments = parser.parse_intermixed_args(argv)
    with user_errors(prog):
        report = _check(arguments)
    print(_format(report, name=arguments.name, shown=len(report.issues) if arguments.all else _SHOWN))
    if not report.usable_for_training:
        raise SystemExit(UNFIT_STATUS)


def _check(arguments: argparse.Namespace) -> DatasetReport:
    from dl_lib.data import DatasetCatalog
    from dl_lib.data.dataset_check import check_samples, summarize, unpaired_issues
    from dl_lib.data.files import UnpairedFilesError

    _, meta = read_dataset_config(arguments)
    unpaired: tuple[Issue, ...] = ()
    try:
        dataset = DatasetCatalog.get(arguments.name)
    except UnpairedFilesError as error:  # what has its partner is worth looking at all the same
        dataset, unpaired = error.usable, unpaired_issues(error.paired)
    checks = check_samples(dataset, meta=meta, workers=arguments.workers)
    return summarize(_with_bar(checks, total=len(dataset), name=arguments.name), meta=meta, unpaired=unpaired)


def _with_bar(checks: Iterable[SampleCheck], *, total: int, name: str) -> Iterator[SampleCheck]:
    from dl_lib.utils.progress import progress_bar

    with progress_bar(total, description=f"checking {name}", unit="sample") as bar:
        for check in checks:
            bar.update()
            yield check


def _format(report: DatasetReport, *, name: str, shown: int) -> str:
    """The whole report; `shown` issues of each kind are listed."""
    parts = [f"{name}: {report.num_samples} samples read"]
    if report.meta.labelled:
        parts += [_class_table(report), *_remarks(report)]
    parts += _findings(report.issues, shown=shown)
    reason = "" if report.meta.labelled else " (it has no labels)"
    parts.append("fit to train on: yes" if report.usable_for_training else f"fit to train on: NO{reason}")
    return "\n\n".join(parts)


def _class_table(report: DatasetReport) -> str:
    labelled = sum(report.pixels)
    rows = [
        [label, name, f"{pixels:,}", f"{100 * pixels / max(1, labelled):.3f}", f"{images:,}", f"{weight:.4f}"]
        for label, (name, pixels, images, weight) in enumerate(
            zip(report.meta.class_names, report.pixels, report.images, report.weights, strict=True)
        )
    ]
    headers = ["id", "class", "pixels", "% of labelled", "images", "weight"]
    align = ("right", "left", "right", "right", "right", "right")
    return tabulate(rows, headers=headers, colalign=align, disable_numparse=True)


def _remarks(report: DatasetReport) -> list[str]:
    total = sum(report.pixels) + report.ignored_pixels
    weights = ", ".join(f"{weight:.4f}" for weight in report.weights)
    remarks = [
        f"{100 * report.ignored_pixels / max(1, total):.2f} % of these pixels are ignored.",
        f"Weights by median frequency balancing, for MODEL.LOSS.CLASS_WEIGHTS: [{weights}]",
    ]
    if report.absent_classes:
        remarks.append(f"Never seen: {', '.join(report.absent_classes)}.")
    return remarks


def _findings(issues: Sequence[Issue], *, shown: int) -> list[str]:
    """A paragraph for each kind of what is wrong."""
    by_kind: dict[str, list[str]] = {}
    for issue in issues:
        by_kind.setdefault(issue.kind.value, []).append(issue.message)
    paragraphs = []
    for kind, messages in by_kind.items():
        more = [f"  ... and {len(messages) - shown} more (--all prints them)"] if len(messages) > shown else []
        paragraphs.append("\n".join([f"{len(messages)} x {kind}:", *(f"  {m}" for m in messages[:shown]), *more]))
    return paragraphs
