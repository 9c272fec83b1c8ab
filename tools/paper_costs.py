"""Parameters and costs of the experiments of the paper, computed without training.

`python tools/paper_costs.py` prints the values that docs/paper.md shows next to the published ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tabulate import tabulate

from dl_lib.experiment.experiment import read_experiment
from dl_lib.modeling.build import META_ARCH_REGISTRY
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP
from dl_lib.modeling.dynamic.route import Route

PLAYGROUND = Path(__file__).parents[1] / "playground"
SIZE = (1024, 2048)  # height and width of the image in pixels
TRAINED = ("Common-A", "Common-B", "Common-C")  # their routes come from trained networks


class Costs(NamedTuple):
    """Parameters of a network, and GFLOPs for one image of `SIZE` with all edges of its route open."""

    route: Route
    parameters: int
    complete_gflops: float
    published_gflops: float
    routed_gflops: float  # cells and transitions, to which the budget refers


def experiments() -> list[Path]:
    """Return the folders of the experiments whose networks are known without training."""
    found = [path.parent for name in ("Dynamic", "Paper") for path in (PLAYGROUND / name).glob("*/config.yaml")]
    return sorted(folder for folder in found if folder.name not in TRAINED)


def measure(experiment: Path, opts: Sequence[str] = ()) -> Costs:
    """Return the costs of an experiment's network with overrides, built on the meta device."""
    cfg = read_experiment(str(experiment), [*opts, "MODEL.DEVICE=cpu"]).cfg
    with torch.device("meta"):
        model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    table = model.costs.table(*SIZE)
    return Costs(
        model.backbone.route,
        sum(parameter.numel() for parameter in model.parameters()),
        complete_gflops=table.dense / MADDS_PER_GFLOP,
        published_gflops=table.real_all_open / MADDS_PER_GFLOP,
        routed_gflops=table.expected_all_open / MADDS_PER_GFLOP,
    )


def main() -> None:
    """Print one row per experiment."""
    columns = ("experiment", "parameters", "GFLOPs", "GFLOPs (paper)", "GFLOPs of cells and transitions")
    rows = []
    for folder in experiments():
        costs = measure(folder)
        gflops = (costs.complete_gflops, costs.published_gflops, costs.routed_gflops)
        rows.append((folder.relative_to(PLAYGROUND), f"{costs.parameters:,}", *(f"{value:.3f}" for value in gflops)))
    align = ("left", *["right"] * 4)
    print(tabulate(rows, headers=columns, tablefmt="github", colalign=align, disable_numparse=True))


if __name__ == "__main__":
    main()
