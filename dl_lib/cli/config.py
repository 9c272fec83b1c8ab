"""Subcommand `dl_lib config`: config keys, shipped experiments, differences between two configs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from dl_lib.cli.errors import user_errors

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib config") -> None:
    """Print config keys with defaults; see `dl_lib config --help`."""
    parser = argparse.ArgumentParser(
        prog=prog, description="Print config keys with their default values.", allow_abbrev=False
    )
    parser.add_argument("key", nargs="?", default="", metavar="KEY", help="key or prefix (default: all keys)")
    arguments = parser.parse_args(argv)
    with user_errors(prog):
        from dl_lib.config import ConfigError, get_cfg
        from dl_lib.utils.names import nearest_names

        known = get_cfg().flat()
        prefix = arguments.key.rstrip(".")
        chosen = {key: value for key, value in known.items() if f"{key}.".startswith(f"{prefix}." if prefix else "")}
        if not chosen:
            raise ConfigError(f"unknown config key; {nearest_names(prefix, known)}. Received: KEY={arguments.key}")
        for key, value in chosen.items():
            print(f"{key}: {value!r}")
