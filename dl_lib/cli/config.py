"""Subcommand `dl_lib config`: config keys, shipped experiments, differences between two configs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dl_lib.cli.errors import user_errors

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib config") -> None:
    """Print config keys or shipped experiments; see `dl_lib config --help`."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Print config keys with their default values.", allow_abbrev=False
    )
    parser.add_argument("key", nargs="?", default="", metavar="KEY", help="key or prefix (default: all keys)")
    parser.add_argument("--list", action="store_true", help="list the shipped experiments instead")
    arguments = parser.parse_args(argv)
    with user_errors(prog):
        print(_list_experiments() if arguments.list else _describe(arguments.key))


def _list_experiments() -> str:
    from dl_lib.cli.config_file import shipped_experiments

    return "\n".join(shipped_experiments())


def _describe(key: str) -> str:
    from dl_lib.config import ConfigError, get_cfg
    from dl_lib.utils.names import nearest_names

    known = get_cfg().flat()
    prefix = key.rstrip(".")
    chosen = {name: value for name, value in known.items() if f"{name}.".startswith(f"{prefix}." if prefix else "")}
    if not chosen:
        raise ConfigError(f"unknown config key; {nearest_names(prefix, known)}. Received: KEY={key}")
    return "\n".join(f"{name}: {value!r}" for name, value in chosen.items())
