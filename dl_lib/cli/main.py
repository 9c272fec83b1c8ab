"""Command `dl_lib`: dispatcher to one subcommand per task."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from dl_lib.utils.standard_streams import tolerant_streams

__all__ = ["COMMANDS", "main"]

USAGE_ERROR_STATUS = 2  # as in argparse
FAILED_STATUS = 1

# A subcommand's module is dl_lib.cli.<name>, with underscores instead of hyphens.
COMMANDS = {
    "train": "train a model, or resume a training run",
    "evaluate": "evaluate a checkpoint: scores, FLOPs, predictions",
    "predict": "predict new images and videos with a trained run",
    "demo": "predict photos on a local web page",
    "sweep": "evaluate a network at several gate thresholds",
    "freeze-route": "turn one route of a trained network into a static one",
    "specialise": "remove parts of a network that a dataset does not use",
    "export": "export a trained model to ONNX and other formats",
    "find-lr": "run a learning rate range test and suggest a value",
    "inspect": "print parameters, costs, shapes and memory of a network",
    "profile-costs": "measure the latency of every part of a network on this device",
    "check-dataset": "read all samples of a dataset; report errors, class weights",
    "browse-dataset": "plot samples with labels, before and after augmentation",
    "report": "write one HTML page about runs: scores, costs, routes, images",
    "compare-runs": "print scores and costs of several runs as one table",
    "plot-metrics": "plot losses, scores and other metrics of training runs",
    "plot-routes": "plot the routes of a run, of an image, or of two runs",
    "replay": "show where the loss of a run became NaN or infinite",
    "convert-weights": "convert released weights to a dl_lib checkpoint",
    "prepare-voc": "unpack or download PASCAL VOC 2012 and SBD",
    "config": "show config keys and shipped experiments, or compare configs",
}

# Commands whose result is in files.
_WRITING = {*COMMANDS} - {"check-dataset", "compare-runs", "config", "demo", "replay"}


def main(argv: Sequence[str] | None = None) -> None:
    """Run the subcommand named by the first argument.

    Subcommand modules are imported on demand, so that the overview and `--help` do not wait for torch.

    Raises:
        SystemExit: With status 2 if there is no such subcommand, else with the status of the subcommand.
    """
    name, *rest = (sys.argv[1:] if argv is None else list(argv)) or ["--help"]
    with tolerant_streams() as failures:
        _run(name, rest)
    if failures and name not in _WRITING:
        print(f"dl_lib {name}: error: cannot write to standard output: {failures[0].strerror}", file=sys.stderr)
        raise SystemExit(FAILED_STATUS)


def _run(name: str, rest: Sequence[str]) -> None:
    if name in COMMANDS:
        module = importlib.import_module(f"dl_lib.cli.{name.replace('-', '_')}")
        module.main(rest, prog=f"dl_lib {name}")
    elif name in ("-h", "--help"):
        print(_overview())
    elif name == "--version":
        from importlib.metadata import version

        print(f"dl_lib {version('dl_lib')}")
    else:
        from dl_lib.utils.names import nearest_names

        print(f"dl_lib: error: unknown command; {nearest_names(name, COMMANDS)}. Received: {name}", file=sys.stderr)
        raise SystemExit(USAGE_ERROR_STATUS)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    commands = "\n".join(f"  {name:{width}}  {summary}" for name, summary in COMMANDS.items())
    return f"""usage: dl_lib COMMAND [ARGUMENTS] | dl_lib COMMAND --help | dl_lib --version
{commands}

  First run: dl_lib train --config-file Quickstart"""


if __name__ == "__main__":
    main()
