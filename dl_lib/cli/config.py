"""Subcommand `dl_lib config`: config keys, shipped experiments, differences between two configs."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dl_lib.cli.errors import user_errors

if TYPE_CHECKING:
    from dl_lib.config import CfgNode

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib config") -> None:
    """Print config keys, shipped experiments or the difference of two configs; see `dl_lib config --help`."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Describe config keys: default, documentation and accepted values. Or list the shipped experiments,"
        " or compare two configs.",
        allow_abbrev=False,
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "key",
        nargs="?",
        default="",
        metavar="KEY",
        help="key or section, such as MODEL.DEVICE or SOLVER (default: all keys)",
    )
    what.add_argument("--list", action="store_true", help="list the shipped experiments, for --config-file and --diff")
    what.add_argument(
        "--diff",
        nargs=2,
        metavar=("A", "B"),
        help="list the keys whose values differ between two config files, folders or shipped experiments, after "
        "resolving _BASE_",
    )
    arguments = parser.parse_args(argv)
    with user_errors(prog):
        from dl_lib.cli.config_file import shipped_experiments
        from dl_lib.config.reference import config_diff, describe_keys

        if arguments.list:
            text = "\n".join(shipped_experiments())
        elif arguments.diff:
            text = config_diff(*map(_load, arguments.diff))
        else:
            text = describe_keys(arguments.key)
    if text:
        _print(text)


def _print(text: str) -> None:
    """Print text; a reader that stops early, such as `| head`, is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python reports the pipe again at its exit


def _load(config_file: str) -> CfgNode:
    from dl_lib.cli.config_file import find_config_file
    from dl_lib.config import get_cfg

    cfg = get_cfg()
    cfg.merge_from_file(find_config_file(config_file))
    return cfg
