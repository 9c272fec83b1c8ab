"""docs/routes.md: up to date, with a figure of each named route, and published figures that agree with other files."""

import re

import pytest
import torch
from docs_routes import COMPARISON, EXPERIMENT, FIGURES, PAGE, PUBLISHED, ROOT, measure_all, page
from paper_costs import PLAYGROUND, SIZE

from dl_lib.experiment.experiment import read_experiment
from dl_lib.modeling.build import META_ARCH_REGISTRY
from dl_lib.modeling.dynamic.named_routes import NAMED_ROUTES


def test_the_page_is_up_to_date_and_hrnet_has_the_published_cost():
    costs = measure_all()
    assert PAGE.read_text(encoding="utf-8") == page(costs), "run: python tools/docs_routes.py"
    assert sorted(path.stem for path in FIGURES.iterdir()) == sorted(NAMED_ROUTES)
    published = PUBLISHED["hrnet"]
    assert costs["hrnet"].published_gflops == pytest.approx(published.gflops, abs=0.05)
    assert costs["hrnet"].parameters / 1e6 == pytest.approx(published.parameters, abs=0.05)


def costliest_path(table):
    """Return the number of cells and the GFLOPs of the single path with the highest cost."""
    operations, _, transitions = table.expected_parts
    operations = dict(zip(table.lattice.nodes, operations, strict=True))
    highest = {table.lattice.source: (1, table.stem + table.head)}
    for edge, cost in zip(table.lattice.edges, transitions, strict=True):  # ordered by the layers of their sources
        cells, before = highest[edge.source]
        through = (cells + (edge.target in operations), before + cost + operations.get(edge.target, 0))
        highest[edge.target] = max(highest.get(edge.target, through), through, key=lambda entry: entry[1])
    cells, madds = max((highest[output] for output in table.lattice.outputs), key=lambda entry: entry[1])
    return cells, madds / 1e9


def test_single_paths_have_the_cells_and_costs_of_the_text():
    cells, bound = re.search(
        r"single path of this lattice has (\d+)\s+cells and costs less than (\d+)", COMPARISON
    ).groups()
    with torch.device("meta"):
        cfg = read_experiment(str(ROOT / EXPERIMENT), ["MODEL.DEVICE=cpu"]).cfg
        table = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg).costs.table(*SIZE)
    found, gflops = costliest_path(table)
    assert found == int(cells) and int(bound) - 1 < gflops < int(bound)


PAPER = (ROOT / "docs" / "paper.md").read_text(encoding="utf-8")
FIXED = r"^\| `Paper/([^`]+)` \| ([\d.]+)\? \| - \| ([\d.]+)\? \| ([\d.]+)\? \|"


def test_published_figures_agree():
    """They occur in docs/paper.md, in the configs, and in tools/docs_routes.py."""
    figures = {name: values for name, *values in re.findall(FIXED, PAPER, flags=re.MULTILINE)}
    assert len(figures) == 7
    for name, (miou, gflops, parameters) in figures.items():
        config = (PLAYGROUND / "Paper" / name / "config.yaml").read_text(encoding="utf-8")
        assert f"mIoU {miou}   GFLOPs {gflops}   parameters {parameters} M " in config
    for model, gflops, parameters in PUBLISHED.values():
        assert figures[model][1:] == [str(gflops), str(parameters)]
