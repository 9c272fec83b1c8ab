"""What is written equals what was measured."""

import json
import re
from dataclasses import replace

import cv2
import pytest

from dl_lib.evaluation.budget import BudgetTarget
from dl_lib.evaluation.costs import CostStatistics, Spread
from dl_lib.evaluation.evaluator import SemSegEvaluator
from dl_lib.evaluation.inference import inference_on_dataset
from dl_lib.evaluation.report import format_text, write_report
from dl_lib.modeling.dynamic.lattice import Lattice
from tests.evaluation.fakes import IGNORE, NAMES, FakeModel, make_samples

LATTICE = Lattice([2])
TARGET = BudgetTarget(share=0.25, lattice_gflops=0.4)


@pytest.fixture(scope="module")
def result():
    evaluator = SemSegEvaluator("fakes", class_names=NAMES, ignore_value=IGNORE)
    return inference_on_dataset(_ModelOfLattice(), [[sample] for sample in make_samples(4)], evaluator)


class _ModelOfLattice(FakeModel):
    def output(self, sample):
        output = super().output(sample)
        output["gates"] = output["gates"][: len(LATTICE.edges)]
        return output


@pytest.fixture
def folder(result, tmp_path):
    write_report({"fakes": result}, output_dir=tmp_path / "run", targets={"fakes": TARGET}, lattice=LATTICE)
    return tmp_path / "run"


def markdown_rows(text):
    """First cell -> other cells, of all tables of a Markdown document."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}


def test_json_holds_every_figure_in_full(folder, result):
    values = json.loads((folder / "results.json").read_text())["datasets"]["fakes"]
    metrics = result.metrics
    assert values["mIoU"] == metrics.mean_iou
    assert values["fwIoU"] == metrics.frequency_weighted_iou
    assert values["mACC"] == metrics.mean_accuracy
    assert values["pACC"] == metrics.pixel_accuracy
    assert values["classes"] == {
        score.name: {"IoU": score.iou, "accuracy": score.accuracy} for score in metrics.classes
    }
    assert values["absent_classes"] == ["never"] and values["classes"]["never"]["IoU"] is None
    assert list(values["costs_gflops"]) == ["expected", "real", "real_complete", "executed"]
    for kind, spread in values["costs_gflops"].items():
        measured = getattr(result.costs, kind)
        assert spread == {"avg": measured.average, "max": measured.maximum, "min": measured.minimum}
    assert values["images"] == 4 and values["seconds_per_image"] == result.seconds_per_image
    assert values["mean_gates"] == dict(zip(map(str, LATTICE.edges), result.mean_gates, strict=True))
    assert values["budget_gflops"] == {
        "target": 0.1,
        "whole_lattice": 0.4,
        "expected_over_target": result.costs.expected.average / 0.1,
    }


def test_markdown_cells_are_the_figures_rounded(folder, result):
    text = (folder / "results.md").read_text()
    rows = markdown_rows(text)
    for score in result.metrics.classes[:3]:
        assert [float(cell) for cell in rows[score.name]] == [
            pytest.approx(100 * score.iou, abs=0.005),
            pytest.approx(100 * score.accuracy, abs=0.005),
        ]
    assert rows["never"] == ["absent", "absent"]
    assert "in none of the means: never." in text
    mean_row = rows[f"{100 * result.metrics.mean_iou:.2f}"]
    assert float(mean_row[2]) == pytest.approx(100 * result.metrics.pixel_accuracy, abs=0.005)
    labels = {"expected": "expected", "real": "real", "real complete": "real_complete", "executed": "executed"}
    for label, kind in labels.items():
        spread = getattr(result.costs, kind)
        expected = (spread.average, spread.maximum, spread.minimum)
        assert [float(cell) for cell in rows[label]] == pytest.approx(expected, abs=5e-7)
    average = result.costs.expected.average
    for label, gflops in {"expected, on average": average, "target": 0.1, "whole lattice, all gates open": 0.4}.items():
        assert [float(cell) for cell in rows[label]] == [
            pytest.approx(gflops, abs=5e-7),
            pytest.approx(gflops / 0.4, abs=5e-4),
        ]
    assert "![Mean route on fakes](route.png)" in text


def test_large_networks_have_four_decimals(result):
    """The paper's Layer16, all gates open at 1024x2048: 119.4915 GFLOPs."""
    spread = Spread(average=119.4915, maximum=121.0591, minimum=22.5)
    text = format_text(replace(result, costs=CostStatistics(spread, spread, spread, spread)))
    assert re.search(r"real complete +119\.4915 +121\.0591 +22\.5000\n", text)


def test_the_terminal_shows_the_same_cells(folder, result):
    text = format_text(result, target=TARGET)
    for name, cells in markdown_rows((folder / "results.md").read_text()).items():
        if not set(name) <= set(":-"):
            assert re.search(r"\s+".join(map(re.escape, [name, *filter(None, cells)])), text), name


def test_the_budget_is_compared_with_what_was_measured(result):
    overrun = result.costs.expected.average / 0.1
    remark = format_text(result, target=TARGET).splitlines()[-1]
    ratio, percent = re.fullmatch(r"Budget: .* is (\S+) times its target \((\S+) %\)\.", remark).groups()
    assert float(ratio) == pytest.approx(overrun, abs=5e-4)
    assert float(percent) == pytest.approx(100 * (overrun - 1), abs=0.05) and percent[0] in "+-"
    assert "udget" not in format_text(result)
    nothing = format_text(result, target=BudgetTarget(share=0.0, lattice_gflops=0.4))
    assert re.search(r"\ntarget +0\.000000 +0\.000\n", nothing) and "times its target" not in nothing


def test_the_picture_lies_beside_the_tables(folder):
    picture = cv2.imread(str(folder / "route.png"))
    assert picture.shape[1] > picture.shape[0] > 100
    assert sorted(path.name for path in folder.iterdir()) == ["results.json", "results.md", "route.png"]


def test_several_data_sets_share_the_files_and_have_a_picture_each(result, tmp_path):
    results = {"one": result, "two": result}
    paths = write_report(results, output_dir=tmp_path, targets={}, lattice=LATTICE)
    assert {path.name for path in paths} == {"results.json", "results.md", "route_one.png", "route_two.png"}
    data = json.loads((tmp_path / "results.json").read_text())["datasets"]
    assert data["one"] == data["two"] and "budget_gflops" not in data["one"]


def test_a_failure_leaves_the_old_file_whole(folder, result, monkeypatch):
    before = (folder / "results.json").read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report({"other": result}, output_dir=folder, targets={}, lattice=LATTICE)
    assert (folder / "results.json").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == ["results.json", "results.md", "route.png"]
