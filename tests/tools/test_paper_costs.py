"""docs/paper.md: a row with computed costs for every experiment of the paper, and the table of the benchmark."""

import re
from pathlib import Path

import pytest
from paper_costs import PLAYGROUND, TRAINED, experiments, measure

from dl_lib.experiment.experiment import read_experiment
from dl_lib.modeling.costs.latency_file import network_values
from dl_lib.modeling.dynamic.configured_route import configured_route

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "paper.md").read_text(encoding="utf-8")


def cells(experiment):
    """Return the cells of the experiment's row, from its name to the last column."""
    (row,) = re.findall(rf"^\| `{re.escape(experiment)}`.*\|$", PAGE, flags=re.MULTILINE)
    return [cell.strip() for cell in row.split("|")[1:-1]]


def test_every_experiment_has_a_row():
    names = {str(folder.relative_to(PLAYGROUND)) for folder in experiments()} | {f"Paper/{name}" for name in TRAINED}
    assert set(re.findall(r"^\| `((?:Dynamic|Paper)/[^`]+)`", PAGE, flags=re.MULTILINE)) == names
    assert all(cells(name) for name in names)


@pytest.fixture(scope="module")
def measured():
    """Costs by network, since many experiments differ in training only."""
    return {}


@pytest.mark.parametrize("name", [str(folder.relative_to(PLAYGROUND)) for folder in experiments()])
def test_the_page_shows_the_computed_costs(name, measured):
    cfg = read_experiment(str(PLAYGROUND / name), []).cfg
    network = (str(network_values(cfg)), configured_route(cfg))
    costs = measured[network] = measured.get(network) or measure(PLAYGROUND / name)
    assert cells(name)[-2:] == [f"{costs.published_gflops:.1f}", f"{costs.parameters / 1e6:.1f}"]
    assert costs.published_gflops < costs.complete_gflops


def test_costs_without_gates_are_those_of_the_text():
    shown = re.findall(r"they cost ([\d.]+) GFLOPs, with small\s+gates ([\d.]+) ", PAGE)
    names = ("Dynamic/Seg.Layer16", "Dynamic/Seg.Layer16.SmallGate.Dynamic_A")
    costs = [measure(PLAYGROUND / name) for name in names]
    assert shown == [tuple(f"{cost.published_gflops - cost.routed_gflops:.1f}" for cost in costs)]


def test_the_page_shows_the_table_of_the_benchmark():
    lines = (DOCS / "one_gpu" / "results.md").read_text(encoding="utf-8").splitlines()
    table = "\n".join(line for line in lines if line.startswith("|"))
    assert len(table.splitlines()) > 2 and table in PAGE
