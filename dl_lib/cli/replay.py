"""Subcommand `dl_lib replay`: replay of a saved step with a non-finite loss or gradient, with layer statistics."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dl_lib.cli.arg_types import non_negative_int, user_path
from dl_lib.cli.arguments import parse_arguments, prediction_parser
from dl_lib.cli.errors import user_errors
from dl_lib.config import CfgNode, ConfigError, apply_overrides, get_cfg
from dl_lib.config.errors import unknown_key
from dl_lib.experiment.net_files import find_nets, import_nets
from dl_lib.utils.escaping import printable
from dl_lib.utils.run_files import CONFIG_NAME, DEBUG_NAME

if TYPE_CHECKING:
    from dl_lib.engine.replay.layer_statistics import LayerStatistics
    from dl_lib.engine.replay.replay import Replay
    from dl_lib.engine.training.saved_step import SavedStep

__all__ = ["main"]

_NEIGHBOURS = 8  # layers that are printed on both sides of the first non-finite one
_MAX_NAMES = 4  # of the images of the step
_NO_VALUE = "-"
_MARK = " <--"
_HEADERS = ("layer", "type", "min", "max", "mean", "std", "non-finite\n(%)", "output\ngradient", "weight\ngradient")
_LEGEND = "min to std: finite values of the layer's output. Gradients: L2 norms, before clipping. -: no value."
_NOTES = f"""
files:
  A run saves the last two steps whose loss or gradient is not finite in its
  folder {DEBUG_NAME}/: weights, batch of each process, random state, config. Overrides
  show whether another setting helps, such as SOLVER.PRECISION=float32.
"""


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib replay") -> None:
    """Replay a saved step; see `dl_lib replay --help`."""
    parser = prediction_parser(
        prog=prog,
        description="Repeat the forward and backward pass of a step with a non-finite loss or gradient, and print the "
        "values of its layers. Nothing is written.",
        notes=_NOTES,
        run_help=f"folder of a run, or its folder {DEBUG_NAME}",
    )
    parser.add_argument("--step", type=non_negative_int, metavar="N", help="iteration (default: the last saved one)")
    parser.add_argument("--rank", type=non_negative_int, default=0, metavar="R", help="rank of the batch (default: 0)")
    parser.add_argument("--all", action="store_true", help="print all layers, not only those near the first problem")
    parser.add_argument("--device", help="auto, cpu, cuda or cuda:N; sets MODEL.DEVICE")
    arguments = parse_arguments(parser, argv)
    with user_errors(prog):
        _replay(arguments)


def _replay(arguments: argparse.Namespace) -> None:
    from dl_lib.engine.replay.replay import replay_step
    from dl_lib.engine.training.saved_step import read_saved_step
    from dl_lib.validation import validate_config

    folder = _debug_folder(arguments.run)
    step = read_saved_step(folder, iteration=arguments.step, rank=arguments.rank)
    opts = arguments.opts if arguments.device is None else [*arguments.opts, f"MODEL.DEVICE={arguments.device}"]
    cfg = _config(step, opts, run_folder=folder.resolve().parent)
    validate_config(cfg, purpose="prediction")
    print(_describe(step))
    replay = replay_step(cfg, step)
    first = replay.first_non_finite_output or replay.first_non_finite_gradient
    print(f"\n{_layer_table(replay.layers, first=None if arguments.all else first, marked=first)}")
    print(f"\n{_value_table(step.values, replay.values)}\n\n{_conclusion(step, replay)}")


def _debug_folder(given: str) -> Path:
    """Return the folder with the saved steps of a run folder, of its config file, or the folder itself."""
    path = user_path(given)
    folder = path.parent if path.is_file() else path
    if (folder / DEBUG_NAME).is_dir() or (folder / CONFIG_NAME).is_file():
        return folder / DEBUG_NAME
    return folder


def _config(step: SavedStep, opts: Sequence[str], *, run_folder: Path) -> CfgNode:
    """Return the config of a step with overrides, after the import of the run's own code.

    Raises:
        ConfigError: If a key is unknown, or an override is invalid.
    """
    if (run_folder / CONFIG_NAME).is_file():
        import_nets(find_nets([run_folder]))
    defaults = get_cfg()
    known = defaults.flat()
    if unknown := [unknown_key(key, value, known) for key, value in step.config.items() if key not in known]:
        raise ConfigError(f"the saved step requires the net.py of its run, next to {DEBUG_NAME}/: {unknown[0]}")
    cfg = defaults.with_values(step.config).clone()
    cfg.defrost()
    apply_overrides(cfg, opts)
    cfg.freeze()
    return cfg


def _describe(step: SavedStep) -> str:
    names = [printable(str(sample.get("file_name", "?"))) for batch in step.batches for sample in batch]
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    batches = f" in {len(step.batches)} batches" if len(step.batches) > 1 else ""
    return (
        f"Iteration {step.iteration}/{step.max_iter} (counted from 0), rank {step.rank} of {step.world_size}, "
        f"{len(names)} images{batches}: {', '.join(names[:_MAX_NAMES])}{more}"
    )


def _layer_table(
    layers: Sequence[LayerStatistics], *, first: LayerStatistics | None, marked: LayerStatistics | None
) -> str:
    """Return the table of the layers, without those far from the first problem if it is given."""
    from dl_lib.evaluation.report.formatting import format_table

    shown = [layer for layer in layers if layer.is_leaf or layer is marked]
    start, end = 0, len(shown)
    if first is not None:
        start = max(0, shown.index(first) - _NEIGHBOURS)
        end = min(end, shown.index(first) + _NEIGHBOURS + 1)
    rows = [
        [
            f"{layer.name}{_MARK if layer is marked else ''}",
            layer.kind,
            *map(_number, (layer.minimum, layer.maximum, layer.mean, layer.std)),
            f"{100 * layer.non_finite:.3g}",
            *map(_number, (layer.output_gradient, layer.weight_gradient)),
        ]
        for layer in shown[start:end]
    ]
    table = format_table(rows, headers=_HEADERS, style="simple")
    if end - start < len(shown):
        table += f"\n{start} layers before and {len(shown) - end} after these are not shown; --all prints them."
    return f"{table}\n{_LEGEND}"


def _value_table(recorded: dict[str, float], replayed: dict[str, float]) -> str:
    from dl_lib.evaluation.report.formatting import format_table

    rows = [
        [name, *(_NO_VALUE if name not in values else f"{values[name]:.9g}" for values in (recorded, replayed))]
        for name in {**recorded, **replayed}
    ]
    return format_table(rows, headers=["value", "in the run", "replayed"], style="simple")


def _conclusion(step: SavedStep, replay: Replay) -> str:
    from dl_lib.checkpoint.weights import non_finite

    lines = []
    if invalid := non_finite(step.weights):
        lines.append(
            f"{len(invalid)} of {len(step.weights)} weights and buffers were not finite before the step, such as "
            f"{invalid[0]}: an earlier step has diverged."
        )
    if layer := replay.first_non_finite_output:
        inputs = "finite" if layer.inputs_are_finite else "not finite"
        lines.append(f"First non-finite output: {layer.name} ({layer.kind}); its inputs are {inputs}.")
    elif layer := replay.first_non_finite_gradient:
        is_output = not math.isfinite(layer.output_gradient or 0.0)
        part = "output" if is_output else "weights"
        lines.append(f"All outputs are finite. First non-finite gradient: that of the {part} of {layer.name}.")
    elif not all(map(math.isfinite, replay.values.values())):
        lines.append("The outputs of all layers and their gradients are finite; the loss is not.")
    else:
        lines.append("All outputs, gradients and losses are finite.")
    if _equal(step.values, replay.values):
        lines.append("The replayed values equal those of the run bit for bit.")
    else:
        reasons = "; ".join(replay.differences)
        lines.append(
            f"The replayed values differ from those of the run{f', as expected: {reasons}' if reasons else ''}."
        )
    return "\n".join(lines)


def _equal(recorded: dict[str, float], replayed: dict[str, float]) -> bool:
    return recorded.keys() == replayed.keys() and all(
        value == replayed[name] or (math.isnan(value) and math.isnan(replayed[name]))
        for name, value in recorded.items()
    )


def _number(value: float | None) -> str:
    return _NO_VALUE if value is None else f"{value:.3g}"
