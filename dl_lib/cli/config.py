"""Subcommand `dl_lib config`: config keys, shipped experiments, differences between two configs."""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dl_lib.cli.errors import user_errors

if TYPE_CHECKING:
    from dl_lib.config import CfgNode
    from dl_lib.config.layers import ConfigLayer

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib config") -> None:
    """Print config keys, shipped experiments or the difference of two configs; see `dl_lib config --help`."""
    arguments = _parser(prog).parse_args(argv)
    with user_errors(prog):
        from dl_lib.config.reference import config_diff, describe_keys
        from dl_lib.experiment.config_file import shipped_experiments

        if arguments.list:
            text = "\n".join(shipped_experiments())
        elif arguments.diff:
            # A process for each: two versions of a net.py register the same names.
            with multiprocessing.get_context("spawn").Pool(2, maxtasksperchild=1) as pool:
                text = config_diff(*pool.map(_load, arguments.diff, chunksize=1))
        else:
            _import_nets(arguments.config_file)
            text = describe_keys(arguments.key)
    if text:
        print(text)


def _parser(prog: str) -> argparse.ArgumentParser:
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
    parser.add_argument(
        "--config-file",
        metavar="PATH",
        help="experiment whose net.py adds keys and choices (default: that of the current folder, if it is one)",
    )
    return parser


def _import_nets(config_file: str | None) -> None:
    from dl_lib.utils.run_files import CONFIG_NAME

    if config_file is not None or Path(CONFIG_NAME).is_file():
        _read_layers(config_file, option="--config-file")


def _load(config_file: str) -> CfgNode:
    from dl_lib.config import get_cfg

    layers = _read_layers(config_file, option="--diff")  # its net.py files declare keys of the config
    cfg = get_cfg()
    cfg.merge_from_layers(layers)
    return cfg


def _read_layers(config_file: str | None, *, option: str) -> list[ConfigLayer]:
    """Return the layers of a config, with their net.py files imported."""
    from dl_lib.config.layers import read_layers
    from dl_lib.experiment.config_file import find_config_file
    from dl_lib.experiment.net_files import import_nets_of

    layers = read_layers(find_config_file(config_file, option=option))
    import_nets_of(layers)
    return layers
