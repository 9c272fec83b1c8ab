"""Subcommand `dl_lib check-dataset`: invalid samples, class distribution and class weights of a dataset."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from textwrap import indent
from typing import TYPE_CHECKING, get_args

from tabulate import tabulate

from dl_lib.cli.arg_types import worker_count
from dl_lib.cli.arguments import parse_arguments
from dl_lib.cli.dataset_arguments import dataset_parser, read_dataset_config
from dl_lib.cli.errors import user_errors
from dl_lib.config.choices import LabelShortcoming
from dl_lib.utils.escaping import printable, printable_lines

if TYPE_CHECKING:
    from dl_lib.data.dataset_check import DatasetReport, Issue, SampleCheck

__all__ = ["main"]

UNUSABLE_STATUS = 1
_MAX_LISTED = 10  # issues of each kind without --all


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib check-dataset") -> None:
    """Read all samples of a dataset and print a report; see `dl_lib check-dataset --help`."""
    parser = dataset_parser(
        prog=prog,
        description="Read all samples of a dataset. Print images and labels without a counterpart, unreadable files, "
        "unknown class ids, images with an EXIF orientation, the number of pixels of each class, and class weights. "
        "Exit status: 0 if the dataset is usable for training, else 1: also if a class has no pixel, or more than "
        "90 % of the pixels are ignored in a dataset that is not known to be sparse (as Cityscapes coarse is).",
    )
    parser.add_argument("--workers", type=worker_count, default=2, metavar="N", help="data loader workers (default: 2)")
    parser.add_argument(
        "--all", action="store_true", help=f"list all issues instead of the first {_MAX_LISTED} of each kind"
    )
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        choices=get_args(LabelShortcoming),
        help="accept classes without a pixel, or mostly ignored pixels; can be given twice",
    )
    arguments = parse_arguments(parser, argv)
    with user_errors(prog):
        report, hint = _check(arguments)
        proposal = _proposal(report, name=arguments.name) or hint
    max_listed = len(report.issues) if arguments.all else _MAX_LISTED
    print(printable_lines(_format(report, name=arguments.name, max_listed=max_listed)))
    if proposal:
        print(printable_lines(f"\n{proposal}"))
    if not report.usable_for_training:
        raise SystemExit(UNUSABLE_STATUS)


def _check(arguments: argparse.Namespace) -> tuple[DatasetReport, str]:
    """Return the report, and a hint on the cause of unpaired files."""
    from dl_lib.data import DatasetCatalog
    from dl_lib.data.dataset_check import check_samples, summarize, unpaired_issues
    from dl_lib.data.files import UnpairedFilesError

    _, meta = read_dataset_config(arguments)
    unpaired: tuple[Issue, ...] = ()
    hint = ""
    try:
        dataset = DatasetCatalog.get(arguments.name)
    except UnpairedFilesError as error:  # check the complete pairs nevertheless
        dataset, unpaired, hint = error.usable, unpaired_issues(error.paired), error.hint
    checks = check_samples(dataset, meta=meta, workers=arguments.workers)
    checks = _with_bar(checks, total=len(dataset), name=arguments.name)
    return summarize(checks, meta=meta, unpaired=unpaired, allowed=arguments.allow), hint


def _proposal(report: DatasetReport, *, name: str) -> str:
    """Return the proposed entry of a dataset whose files do not fit its entry in DATASETS.FOLDERS, or an empty text."""
    from dl_lib.data import DatasetCatalog
    from dl_lib.data.datasets.folder import FolderSource
    from dl_lib.data.datasets.proposals import propose_entry

    source = DatasetCatalog.loader(name)
    if not isinstance(source, FolderSource) or not report.meta.labelled or not (report.issues or report.absent_classes):
        return ""
    proposal = propose_entry(name, source)
    if proposal is None:
        return ""
    entry = indent(proposal.entry, 4 * " ")  # as in the files of the documentation
    return f"proposed entry of DATASETS.FOLDERS; check the classes ({'; '.join(proposal.reasons)}):\n{entry}"


def _with_bar(checks: Iterable[SampleCheck], *, total: int, name: str) -> Iterator[SampleCheck]:
    from dl_lib.utils.progress import progress_bar

    with progress_bar(total, description=f"checking {name}", unit="sample") as bar:
        for check in checks:
            bar.update()
            yield check


def _format(report: DatasetReport, *, name: str, max_listed: int) -> str:
    parts = [f"{name}: {report.num_samples} samples read"]
    if report.meta.labelled:
        parts += [_class_table(report), *_notes(report)]
    parts += _issue_lists(report.issues, max_listed=max_listed)
    parts.append(f"usable for training: {'yes' if report.usable_for_training else 'no' + _reasons(report)}")
    return "\n\n".join(parts)


def _reasons(report: DatasetReport) -> str:
    """Return the shortcomings of the labels as a whole, with the fix."""
    from dl_lib.data.label_shortcomings import label_hint

    if not report.meta.labelled:
        return " (no labels)"
    if not report.shortcomings:
        return ""
    listed = "; ".join(
        message + (f" (accept with --allow {kind})" if kind in get_args(LabelShortcoming) else "")
        for kind, message in report.shortcomings.items()
    )
    hint = "" if "unread-labels" in report.shortcomings else f". Check the ids: {label_hint(report.meta)}"
    return f": {listed}{hint}"


def _class_table(report: DatasetReport) -> str:
    labelled = sum(report.pixels)
    rows = [
        [label, name, f"{pixels:,}", f"{100 * pixels / max(1, labelled):.3f}", f"{images:,}", f"{weight:.4f}"]
        for label, (name, pixels, images, weight) in enumerate(
            zip(map(printable, report.meta.class_names), report.pixels, report.images, report.weights, strict=True)
        )
    ]
    headers = ["id", "class", "pixels", "% of labelled", "images", "weight"]
    align = ("right", "left", "right", "right", "right", "right")
    return tabulate(rows, headers=headers, colalign=align, disable_numparse=True)


def _notes(report: DatasetReport) -> list[str]:
    total = sum(report.pixels) + report.ignored_pixels
    weights = ", ".join(f"{weight:.4f}" for weight in report.weights)
    notes = [f"{100 * report.ignored_pixels / max(1, total):.2f} % of all pixels are ignored."]
    if any(report.weights):
        notes.append(f"Class weights (median frequency balancing) for MODEL.LOSS.CLASS_WEIGHTS: [{weights}]")
    return notes


def _issue_lists(issues: Sequence[Issue], *, max_listed: int) -> list[str]:
    """Return a paragraph for each kind of issue."""
    by_kind: dict[str, list[str]] = {}
    for issue in issues:
        by_kind.setdefault(issue.kind.value, []).append(issue.message)
    paragraphs = []
    for kind, messages in by_kind.items():
        num_hidden = len(messages) - max_listed
        more = [f"  ... and {num_hidden} more (--all lists them)"] if num_hidden > 0 else []
        paragraphs.append("\n".join([f"{len(messages)} x {kind}:", *(f"  {m}" for m in messages[:max_listed]), *more]))
    return paragraphs
