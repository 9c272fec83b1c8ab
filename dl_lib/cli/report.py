"""Subcommand `dl_lib report`: one HTML page about one or several evaluated runs."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from dl_lib.cli.arg_types import local_path, user_path
from dl_lib.cli.errors import user_errors
from dl_lib.config import ConfigError

__all__ = ["main"]

_SUFFIX = ".html"


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib report") -> None:
    """Write the report; see `dl_lib report --help`."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Write one HTML page about evaluated runs, several side by side: scores and costs, training "
        "curves, routes of each image, confusion matrix, config and environment. It needs no other file and no "
        "network. Only the run folders are read.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("runs", nargs="+", type=user_path, metavar="RUN", help="run or evaluation folder")
    default = Path("output", f"report{_SUFFIX}")
    add("--output", type=_page_path, default=default, metavar="FILE", help="page to write (default: %(default)s)")
    arguments = parser.parse_args(argv)
    with user_errors(prog):
        _write(arguments.runs, arguments.output)


def _page_path(text: str) -> Path:
    path = local_path(text)
    if path.suffix != _SUFFIX:
        raise argparse.ArgumentTypeError(f"must end in {_SUFFIX}. Received: {text}")
    return path


def _write(folders: Sequence[Path], output: Path) -> None:
    from dl_lib.utils.escaping import printable_lines
    from dl_lib.utils.files import write_atomically
    from dl_lib.visualization.figure import COLORS
    from dl_lib.web.report.page import report_page
    from dl_lib.web.report.run_data import read_run

    if len(folders) > len(COLORS):
        raise ConfigError(f"RUN: at most {len(COLORS)} runs fit side by side. Received: {len(folders)} runs")
    if len(set(map(os.path.realpath, folders))) < len(folders):
        raise ConfigError(f"RUN: each run must be given once. Received: {' '.join(map(str, folders))}")
    runs = [read_run(folder, among=folders) for folder in folders]
    for run in runs:
        for sentence in run.missing:
            print(printable_lines(f"Missing for {run.name}: {sentence}"))
    write_atomically(output, report_page(runs))
    print(f"Wrote {output.absolute()} ({output.stat().st_size / 1e6:.1f} MB)")
