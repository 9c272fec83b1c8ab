"""Redrawing the mean routing of a run from its results."""

import json
import subprocess
import sys

import numpy as np

from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.visualization.figure import save_figure
from dl_lib.visualization.routing import draw_routing


def test_the_figure_of_the_evaluation_is_drawn_again(tmp_path):
    lattice = Lattice([2, 3, 4, 4])
    gates = np.random.default_rng(0).random(len(lattice.edges)).tolist()
    save_figure(draw_routing(lattice, gates=gates, title="Mean routing on toy"), tmp_path / "route.png")
    results = {"datasets": {"toy": {"mean_gates": dict(zip(map(str, lattice.edges), gates, strict=True))}}}
    (tmp_path / "results.json").write_text(json.dumps(results))
    command = [sys.executable, "tools/draw_routing.py", str(tmp_path), str(tmp_path / "again.png")]
    subprocess.run(command, check=True)
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "route.png").read_bytes()
