"""Subcommand `dl_lib convert-weights`: conversion of released weights to a checkpoint of dl_lib."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dl_lib.cli.arg_types import local_path, user_path
from dl_lib.cli.errors import user_errors
from dl_lib.utils.escaping import printable_lines

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib convert-weights") -> None:
    """Convert a file; an error leaves no output file."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Convert weights of the published DynamicRouting code to a checkpoint of dl_lib. Training and "
        "evaluation also load them unconverted, from MODEL.WEIGHTS. No code in the file is executed.",
        allow_abbrev=False,
    )
    parser.add_argument("path_in", metavar="IN", type=user_path, help="released .pth file")
    parser.add_argument("path_out", metavar="OUT", type=local_path, help="checkpoint to write")
    arguments = parser.parse_args(argv)
    with user_errors(prog):
        from dl_lib.checkpoint import CheckpointError, convert_file

        folder = arguments.path_out.parent
        if not folder.is_dir():
            raise CheckpointError(f"OUT: the folder does not exist; create it first. Received: OUT={str(folder)!r}")
        print(printable_lines(str(convert_file(str(arguments.path_in), arguments.path_out))))
