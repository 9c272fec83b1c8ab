"""Subcommand `dl_lib demo`: local web page that predicts photos with a trained run."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from dl_lib.cli.arg_types import int_between
from dl_lib.cli.errors import user_errors
from dl_lib.config import ConfigError

__all__ = ["main"]

_DEFAULT_RUN, _DEFAULT_PORT = "output/Quickstart", 8008
_HIGHEST_PORT = 2**16 - 1


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib demo") -> None:
    """Serve the demo until Ctrl-C; see `dl_lib demo --help`."""
    arguments = _parse(argv, prog=prog)
    with user_errors(prog):
        _serve(arguments)


def _parse(argv: Sequence[str] | None, *, prog: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Open a local web page that predicts photos with a trained run, and shows the route, cost and time "
        "of each photo at any gate threshold.",
        epilog="The server accepts connections from this machine only. Ctrl-C ends it.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "run", nargs="?", metavar="RUN", help=f"folder of a finished run, or its config.yaml (default: {_DEFAULT_RUN})"
    )
    parser.add_argument("--device", default="", help="auto, cpu, cuda or cuda:N; sets MODEL.DEVICE")
    parser.add_argument(
        "--port",
        type=int_between(0, _HIGHEST_PORT),
        default=_DEFAULT_PORT,
        metavar="N",
        help=f"port; 0 for a free one (default: {_DEFAULT_PORT})",
    )
    return parser.parse_args(argv)


def _serve(arguments: argparse.Namespace) -> None:
    run = arguments.run or _DEFAULT_RUN
    if arguments.run is None and not os.path.isdir(run):
        raise ConfigError(
            "RUN: there is no run of the quickstart here; make one with dl_lib train --config-file Quickstart (about "
            f"5 minutes), or name the folder of another run. Received: current folder={os.getcwd()!r}"
        )
    from dl_lib.prediction.predictor import Predictor
    from dl_lib.utils.logger import setup_logger
    from dl_lib.web.demo.photo_model import PhotoModel
    from dl_lib.web.demo.server import HOST, DemoApp, make_demo_server

    setup_logger()
    model = PhotoModel(Predictor.from_run(run, device=arguments.device))
    server = make_demo_server(DemoApp(model, run_name=Path(run).resolve().name), port=arguments.port)
    print(f"Demo of {run}: http://{HOST}:{server.port} (Ctrl-C ends it)", flush=True)
    server.serve_forever()  # until Ctrl-C
    print("Demo ended", flush=True)
    os._exit(0)  # torch aborts the process if the interpreter ends while a thread predicts a photo
