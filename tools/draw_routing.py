#!/usr/bin/env python
"""Redraw the mean routing of an evaluated run from its results.json, such as docs/images/quickstart_route.png.

Run: python tools/draw_routing.py output/Quickstart docs/images/quickstart_route.png
"""

import argparse
import json
import re
from collections import Counter
from pathlib import Path

from dl_lib.cli.arg_types import figure_path
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.utils.run_files import RESULTS_NAME
from dl_lib.visualization.figure import save_figure
from dl_lib.visualization.routing import draw_routing


def main() -> None:
    """Draw the first dataset of the results, or the one that `--dataset` names."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of an evaluated run")
    parser.add_argument("output", type=figure_path, metavar="FILE", help=".png, .svg or .pdf")
    parser.add_argument("--dataset", metavar="NAME", help="(default: the first one of the results)")
    arguments = parser.parse_args()
    datasets = json.loads((arguments.run / RESULTS_NAME).read_text())["datasets"]
    name = arguments.dataset or next(iter(datasets))
    gates = datasets[name]["mean_gates"]
    figure = draw_routing(lattice_of(gates), gates=list(gates.values()), title=f"Mean routing on {name}")
    save_figure(figure, arguments.output)


def lattice_of(edges: dict[str, float]) -> Lattice:
    """Return the lattice with these edge names, such as layer0_stride4.keep."""
    nodes = dict.fromkeys(edge.partition(".")[0] for edge in edges)
    cells = Counter(int(re.findall(r"\d+", node)[0]) for node in nodes)
    return Lattice([cells[layer] for layer in range(1, len(cells))])


if __name__ == "__main__":
    main()
