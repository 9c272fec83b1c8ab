"""Subcommand `dl_lib inspect`: parameters, costs, tensor shapes and memory of a network, without running it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dl_lib.cli.arg_types import image_size, int_between
from dl_lib.cli.arguments import network_parser, parse_arguments
from dl_lib.cli.errors import user_errors
from dl_lib.config import CfgNode, ConfigError
from dl_lib.experiment.config_file import find_config_file
from dl_lib.experiment.experiment import load_experiment

if TYPE_CHECKING:
    from dl_lib.engine.inspection import Part
    from dl_lib.engine.memory_estimate import MemoryEstimate
    from dl_lib.modeling import SegmentationModel

__all__ = ["main"]

_MAX_IMAGES = 4096  # each is preprocessed on its own, also without values

_ACCEPTED_SIZE, _ACCEPTED_BATCH = (512, 512), 2  # large enough for any network without errors of its own

_NOTES = """
parts:
  The output of a cell is that of its operation. GFLOPs are 1e9 multiply-adds; the
  cost of a cell is that of its operation, its gate and its transitions.
memory:
  Both steps are executed on tensors without values: nothing of the real size is
  computed or allocated.
"""
_PARTS_LEGEND = "Costs are those of one image. CxHxW: channels, height and width."
_MEMORY_LEGEND = "Not included: memory that operations use internally, and fragmentation."


def main(argv: Sequence[str] | None = None, *, prog: str = "dl_lib inspect") -> None:
    """Print the parts and the memory of a network; see `dl_lib inspect --help`."""
    arguments = _parse(argv, prog=prog)
    with user_errors(prog):
        path = os.fspath(find_config_file(arguments.config_file, option="CONFIG"))
        cfg = load_experiment(path, arguments.opts, purpose="evaluation").cfg
        print(_inspect(cfg, size=arguments.size or _crop_size(cfg), num_images=arguments.batch))


def _parse(argv: Sequence[str] | None, *, prog: str) -> argparse.Namespace:
    parser = network_parser(
        prog=prog,
        description="Print parameters, cost and tensor shape of each part of a network, and the peak memory of a "
        "training step and of a prediction.",
        notes=_NOTES,
    )
    add = parser.add_argument
    add("--size", type=image_size, metavar="HxW", help="height and width of the images (default: INPUT.CROP_SIZE)")
    add(
        "--batch",
        type=int_between(1, _MAX_IMAGES),
        metavar="N",
        help="images of a forward pass (default: in training SOLVER.IMS_PER_BATCH / SOLVER.ACCUMULATION_STEPS, as on "
        "one process, and 1 in prediction)",
    )
    return parse_arguments(parser, argv)


def _crop_size(cfg: CfgNode) -> tuple[int, int]:
    height, width = cfg.INPUT.CROP_SIZE
    if not height:
        raise ConfigError(
            "--size: there is no INPUT.CROP_SIZE; give the size of the images with --size HxW. "
            f"Received: INPUT.CROP_SIZE={list(cfg.INPUT.CROP_SIZE)}"
        )
    return height, width


def _inspect(cfg: CfgNode, *, size: tuple[int, int], num_images: int | None) -> str:
    from dl_lib.engine import build_configured_model
    from dl_lib.modeling import SegmentationModel

    # A budget acts on the loss only, and one in milliseconds needs its latency table and device. Compiled graphs cannot
    # run without values.
    execution = "dense" if cfg.TEST.EXECUTION == "compiled" else cfg.TEST.EXECUTION
    cfg = cfg.with_values({"MODEL.BUDGET.CONSTRAIN": False, "TEST.EXECUTION": execution})
    model = build_configured_model(cfg)
    if not isinstance(model, SegmentationModel):
        raise ConfigError(
            "MODEL.META_ARCHITECTURE must be a SegmentationModel, with a backbone and a head, to be inspected. "
            f"Received: MODEL.META_ARCHITECTURE={cfg.MODEL.META_ARCHITECTURE}"
        )
    batches = {
        "training step": num_images or max(1, cfg.SOLVER.IMS_PER_BATCH // cfg.SOLVER.ACCUMULATION_STEPS),
        "prediction": num_images or 1,
    }
    parts, memory = _measure(cfg, model, size=size, batches=batches)
    gates = ", all gates open" if any(part.gflops[1] for part in parts) else ""
    summary = f"{_parameters(model):,} parameters, images of {size[0]}x{size[1]} pixels{gates}"
    tables = f"{_part_table(parts)}\n{_PARTS_LEGEND}", f"{_memory_table(memory, batches)}\n{_MEMORY_LEGEND}"
    return "\n\n".join([summary, *tables])


def _measure(
    cfg: CfgNode, model: SegmentationModel, *, size: tuple[int, int], batches: dict[str, int]
) -> tuple[list[Part], dict[str, MemoryEstimate]]:
    """Return the parts of a network, and the memory of the executions in `batches`.

    Raises:
        ConfigError: If the network runs with other sizes, but not with these. Other errors of the network are defects
            of its code.
    """
    from dl_lib.engine.inspection import parts_of
    from dl_lib.engine.memory_estimate import estimate_inference, estimate_training

    estimates = {"training step": estimate_training, "prediction": estimate_inference}

    def run(size: tuple[int, int], batches: dict[str, int]) -> tuple[list[Part], dict[str, MemoryEstimate]]:
        memory = {name: estimates[name](cfg, model, size=size, num_images=count) for name, count in batches.items()}
        return parts_of(model, size=size), memory

    def runs_otherwise() -> bool:
        try:
            run(_ACCEPTED_SIZE, dict.fromkeys(batches, _ACCEPTED_BATCH))
        except (ValueError, RuntimeError):
            return False
        return True

    try:
        return run(size, batches)
    except (ValueError, RuntimeError) as error:  # torch raises RuntimeError for impossible shapes
        if isinstance(error, ConfigError) or not runs_otherwise():
            raise
        counts = " and ".join(f"{count} ({name})" for name, count in batches.items())
        raise ConfigError(
            f"the network cannot run on images of {size[0]}x{size[1]} pixels in batches of {counts}; choose another "
            f"--size or --batch. Received: {error}"
        ) from error


def _parameters(model: SegmentationModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _part_table(parts: Sequence[Part]) -> str:
    from dl_lib.evaluation.report.formatting import decimals_of, format_table
    from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP

    total = sum(sum(part.gflops) for part in parts)
    decimals = decimals_of(total * MADDS_PER_GFLOP)
    is_routed = any(map(_is_cell, parts))

    def row(name: str, shape: str, parameters: int, split: Sequence[float], gflops: float) -> list[str]:
        costs = [*split, gflops] if is_routed else [gflops]
        cells = [f"{cost:.{decimals}f}" if cost else "" for cost in costs]
        return [name, shape, f"{parameters:,}", *cells, f"{100 * gflops / total:.1f}" if gflops else ""]

    rows = []
    for part in parts:
        shape, split = "x".join(map(str, part.shape)), part.gflops if _is_cell(part) else (0, 0, 0)
        rows.append(row(part.name, shape, part.parameters, split, sum(part.gflops)))
    cells = [part.gflops for part in parts if _is_cell(part)]
    parameters = sum(part.parameters for part in parts)
    rows.append(row("all parts", "", parameters, [sum(costs) for costs in zip(*cells, strict=True)], total))
    split_headers = ["operation\nGFLOPs", "gate\nGFLOPs", "transitions\nGFLOPs"] if is_routed else []
    headers = ["part", "output\nCxHxW", "parameters", *split_headers, "total\nGFLOPs", "total\n%"]
    return format_table(rows, headers=headers, style="simple")


def _is_cell(part: Part) -> bool:
    _, gate, transitions = part.gflops
    return bool(gate or transitions)


def _memory_table(memory: dict[str, MemoryEstimate], batches: dict[str, int]) -> str:
    from dl_lib.evaluation.report.formatting import format_table

    rows = [
        [
            *(name, str(batches[name])),
            *(
                f"{count / 2**20:,.1f}"
                for count in (one.weight_bytes, one.optimizer_bytes, one.activation_bytes, one.peak_bytes)
            ),
        ]
        for name, one in memory.items()
    ]
    values = ("weights", "optimizer, EMA", "activations, gradients", "total")
    headers = ["peak memory", "images", *(f"{name}\nMiB" for name in values)]
    return format_table(rows, headers=headers, style="simple")
