"""docs/paper.md: a row with computed costs for every experiment of the paper, and the table of the benchmark."""

import re
from pathlib import Path

import pytest
from paper_costs import PLAYGROUND, TRAINED, experiments, measure

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


@pytest.mark.parametrize("name", ["Dynamic/Seg.Layer16.SmallGate.Dynamic_A", "Paper/Fix", "Paper/Cell.Bottleneck"])
def test_the_page_shows_the_computed_costs(name):
    costs = measure(PLAYGROUND / name)
    assert cells(name)[-2:] == [f"{costs.published_gflops:.1f}", f"{costs.parameters / 1e6:.1f}"]
    assert costs.published_gflops < costs.complete_gflops


def test_costs_without_gates_are_those_of_the_text():
    for experiment, gflops in (("Dynamic/Seg.Layer16", 23.9), ("Dynamic/Seg.Layer16.SmallGate.Dynamic_A", 8.1)):
        costs = measure(PLAYGROUND / experiment)
        assert costs.published_gflops - costs.routed_gflops == pytest.approx(gflops, abs=0.05)
        assert f"{gflops}" in PAGE


def test_the_page_shows_the_table_of_the_benchmark():
    lines = (DOCS / "one_gpu" / "results.md").read_text(encoding="utf-8").splitlines()
    table = "\n".join(line for line in lines if line.startswith("|"))
    assert len(table.splitlines()) > 2 and table in PAGE
