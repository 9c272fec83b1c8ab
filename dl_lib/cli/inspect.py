"""Subcommand `dl_lib inspect`: parameters, costs, tensor shapes and memory of a network, without running it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
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

_NOTES = """
table:
  of each part, the tensor (channels x height x width) that a cell receives, or
  that another part returns; GFLOPs (1e9 multiply-adds) of one image with all gates
  open, of the operation, the gate and the transitions of a cell.
memory:
  largest sum of the tensors that exist at the same time, with all gates open; no
  memory that operations use internally, and no fragmentation. Nothing of the real
  size is computed or allocated.
"""


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
    from dl_lib.engine.inspection import parts_of
    from dl_lib.engine.memory_estimate import estimate_inference, estimate_training
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
    estimates: dict[str, Callable[..., MemoryEstimate]] = {
        "training step": estimate_training,
        "prediction": estimate_inference,
    }
    name, batch = "prediction", batches["prediction"]
    try:
        parts = parts_of(model, size=size)
        memory = {}
        for name, batch in batches.items():
            memory[name] = estimates[name](cfg, model, size=size, num_images=batch)
    except (ValueError, RuntimeError) as error:  # torch raises RuntimeError for impossible shapes
        raise ConfigError(
            f"the network cannot run a {name} with {size[0]}x{size[1]} pixels and a batch of {batch}: {error}"
        ) from error
    summary = f"{_parameters(model):,} parameters, images of {size[0]}x{size[1]} pixels"
    return "\n\n".join([summary, _part_table(parts), _memory_table(memory, batches)])


def _parameters(model: SegmentationModel) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _part_table(parts: Sequence[Part]) -> str:
    from tabulate import tabulate

    total = sum(sum(part.gflops) for part in parts)
    is_routed = any(part.gflops[1] or part.gflops[2] for part in parts)
    columns = ["operation", "gate", "transitions"] if is_routed else []
    rows = [
        [
            *(part.name, "x".join(map(str, part.shape)), f"{part.parameters:,}"),
            *(f"{gflops:.4g}" if gflops else "" for gflops in (part.gflops if is_routed else ())),
            *((f"{sum(part.gflops):.4g}", f"{100 * sum(part.gflops) / total:.1f}") if any(part.gflops) else ("", "")),
        ]
        for part in parts
    ]
    all_parameters = f"{sum(part.parameters for part in parts):,}"
    rows.append(["all parts", "", all_parameters, *([""] * len(columns)), f"{total:.4g}", "100.0"])
    headers = ["part", "tensor", "parameters", *columns, "GFLOPs", "%"]
    return tabulate(rows, headers=headers, colalign=["left", *["right"] * (len(headers) - 1)], disable_numparse=True)


def _memory_table(memory: dict[str, MemoryEstimate], batches: dict[str, int]) -> str:
    from tabulate import tabulate

    rows = [
        [
            *(name, batches[name]),
            *(
                f"{count / 2**20:,.1f}"
                for count in (one.weight_bytes, one.optimizer_bytes, one.activation_bytes, one.peak_bytes)
            ),
        ]
        for name, one in memory.items()
    ]
    headers = ["peak memory (MiB)", "images", "weights", "optimizer, EMA", "activations, gradients", "total"]
    return tabulate(rows, headers=headers, colalign=["left", *["right"] * (len(headers) - 1)], disable_numparse=True)
