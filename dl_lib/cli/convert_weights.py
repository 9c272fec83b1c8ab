"""`dl_lib convert-weights IN OUT`: released weights of the published code into a checkpoint of ours."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from dl_lib.cli.errors import user_errors

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib convert-weights") -> None:
    """Convert a file; an error leaves no output behind."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Convert weights of the published DynamicRouting code into a checkpoint of dl_lib. "
        "(MODEL.WEIGHTS also takes them as they are.) Nothing in the file is executed.",
    )
    parser.add_argument("path_in", metavar="IN", help="a released .pth file")
    parser.add_argument("path_out", metavar="OUT", help="where the converted checkpoint goes")
    arguments = parser.parse_args(argv)
    with user_errors(prog):
        from dl_lib.checkpoint import CheckpointError, convert_file

        folder = Path(arguments.path_out).parent
        if not folder.is_dir():
            raise CheckpointError(
                f"the folder to write to does not exist; make it first. Received: OUT={str(folder)!r}"
            )

        print(convert_file(arguments.path_in, arguments.path_out))
