"""Report files: contents equal the result."""

import csv
import json
import re
from dataclasses import replace

import cv2
import pytest
import torch

from dl_lib.data.sample_loader import SkippedSample
from dl_lib.evaluation.report.records import IMAGE_COLUMNS
from dl_lib.evaluation.report.report_file import read_report_data
from dl_lib.evaluation.report.tables import format_text
from dl_lib.evaluation.runner.run import inference_on_dataset
from dl_lib.evaluation.scores.budget import BudgetSummary
from dl_lib.evaluation.scores.evaluator import SemSegEvaluator
from dl_lib.evaluation.scores.image_properties import IMAGE_PROPERTIES
from dl_lib.evaluation.scores.metrics import segmentation_metrics
from dl_lib.evaluation.scores.result import CostStatistics, OfficialScores
from dl_lib.modeling.costs.costs import Costs
from dl_lib.modeling.dynamic.route import Route
from dl_lib.visualization.confusion_matrix import draw_confusion_matrix
from dl_lib.visualization.figure import to_image
from tests.helpers.evaluation import IGNORE, NAMES, batches_of, make_samples
from tests.helpers.report_data import report_data
from tests.helpers.reports import LATTICE, ModelOfLattice, markdown_rows, write

FILES = ["confusion.csv", "confusion.png", "gates.npz", "per_image.csv", "results.json", "results.md", "route.png"]


TARGET = BudgetSummary("expected", madds=0.13e9, target_madds=0.1e9, full_madds=0.4e9)


@pytest.fixture(scope="module")
def result():
    evaluator = SemSegEvaluator("fakes", class_names=NAMES, ignore_value=IGNORE)
    return inference_on_dataset(ModelOfLattice(), batches_of(make_samples(4)), evaluator)


@pytest.fixture
def folder(result, tmp_path):
    write({"fakes": result}, tmp_path / "run", targets={"fakes": TARGET})
    return tmp_path / "run"


def test_json_contains_all_values_in_full_precision(folder, result):
    content = json.loads((folder / "results.json").read_text())
    values, metrics = content["datasets"]["fakes"], result.metrics
    assert content["parameters"] == 1234
    assert values["mIoU"] == metrics.mean_iou
    assert values["fwIoU"] == metrics.frequency_weighted_iou
    assert values["mACC"] == metrics.mean_accuracy
    assert values["pACC"] == metrics.pixel_accuracy
    assert values["classes"] == {
        score.name: {"IoU": score.iou, "accuracy": score.accuracy} for score in metrics.classes
    }
    assert values["absent_classes"] == ["never"] and values["classes"]["never"]["IoU"] is None
    assert list(values["costs_gflops"]) == ["expected", "real", "real_complete", "executed"]
    statistics = {"avg": result.costs.average, "max": result.costs.maximum, "min": result.costs.minimum}
    for kind, gflops in values["costs_gflops"].items():
        assert gflops == {name: getattr(costs, kind) / 1e9 for name, costs in statistics.items()}
    assert values["images"] == 4 and values["seconds_per_image"] == result.seconds_per_image
    assert values["mean_gates"] == dict(zip(map(str, LATTICE.edges), result.mean_gates, strict=True))
    assert values["budget_gflops"] == {
        "cost": "expected",
        "avg": 0.13,
        "target": 0.1,
        "all_open": 0.4,
        "over_target": 1.3,
    }


def test_markdown_tables_contain_the_rounded_values(folder, result):
    text = (folder / "results.md").read_text()
    rows = markdown_rows(text)
    for score in result.metrics.classes[:3]:
        assert [float(cell) for cell in rows[score.name]] == [
            pytest.approx(100 * score.iou, abs=0.005),
            pytest.approx(100 * score.accuracy, abs=0.005),
        ]
    assert rows["never"] == ["absent", "absent"]
    assert "excluded from all means: never." in text
    mean_row = rows[f"{100 * result.metrics.mean_iou:.2f}"]
    assert float(mean_row[2]) == pytest.approx(100 * result.metrics.pixel_accuracy, abs=0.005)
    labels = {"expected": "expected", "real": "real", "real complete": "real_complete", "executed": "executed"}
    for label, kind in labels.items():
        statistics = (result.costs.average, result.costs.maximum, result.costs.minimum)
        expected = [getattr(costs, kind) / 1e9 for costs in statistics]
        assert [float(cell) for cell in rows[label]] == pytest.approx(expected, abs=5e-7)
    for label, gflops in {"expected, average": 0.13, "target": 0.1, "full lattice, all gates open": 0.4}.items():
        assert [float(cell) for cell in rows[label]] == [
            pytest.approx(gflops, abs=5e-7),
            pytest.approx(gflops / 0.4, abs=5e-4),
        ]
    assert "![Mean routing on fakes](route.png)" in text
    assert "![Confusion matrix on fakes](confusion.png)" in text


def test_large_networks_have_four_decimals(result):
    """The paper's Layer16, all gates open at 1024x2048: 119.4915 GFLOPs."""
    statistics = CostStatistics(*(Costs.uniform(gflops * 1e9) for gflops in (119.4915, 121.0591, 22.5)))
    text = format_text(replace(result, costs=statistics))
    assert re.search(r"real complete +119\.4915 +121\.0591 +22\.5000\n", text)


def test_text_tables_contain_the_same_cells(folder, result):
    text = format_text(result, target=TARGET)
    for name, cells in markdown_rows((folder / "results.md").read_text()).items():
        if not set(name) <= set(":-"):
            assert re.search(r"\s+".join(map(re.escape, [name, *filter(None, cells)])), text), name


def test_budget_table_and_remark_compare_the_constrained_cost_with_its_target(result):
    text = format_text(result, target=TARGET)
    assert text.splitlines()[-1] == "Budget: the expected cost is 1.300 times its target (+30.0 %)."
    assert re.search(r"\nexpected, average +0\.130000 +0\.325\ntarget +0\.100000 +0\.250\nfull lattice, all", text)
    assert "udget" not in format_text(result)
    zero = format_text(result, target=replace(TARGET, target_madds=0.0))
    assert re.search(r"\ntarget +0\.000000 +0\.000\n", zero) and "times its target" not in zero


def test_figures_are_written_next_to_the_tables(folder, result):
    route, confusion = (cv2.imread(str(folder / name))[..., ::-1] for name in ("route.png", "confusion.png"))
    assert route.shape[1] > route.shape[0] > 100
    title = "Confusion matrix on fakes"
    figure = draw_confusion_matrix(result.confusion, class_names=NAMES, title=title)
    assert (confusion == to_image(figure)).all()
    assert sorted(path.name for path in folder.iterdir()) == FILES


def test_confusion_csv_contains_counts_and_names(folder, result):
    with (folder / "confusion.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert tuple(header[1:]) == tuple(row[0] for row in rows) == NAMES
    assert [[int(pixels) for pixels in row[1:]] for row in rows] == result.confusion.tolist()


def test_per_image_csv_contains_scores_and_costs(folder, result):
    with (folder / "per_image.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(IMAGE_COLUMNS)
    for row, image in zip(rows, result.images, strict=True):
        assert (row["image_id"], row["file_name"]) == (image.image_id, image.file_name)
        assert ((int(row["input_height"]), int(row["input_width"])),) == image.input_sizes and row["passes"] == "1"
        assert (float(row["mIoU"]), float(row["pACC"])) == (image.scores.mean_iou, image.scores.pixel_accuracy)
        for kind in ("expected", "real", "real_complete", "executed"):
            assert float(row[f"{kind}_gflops"]) == getattr(image.costs, kind) / 1e9
        assert float(row["seconds"]) == image.seconds
        assert int(row["route"]) == result.routes.numbers[result.images.index(image)]
        for name in IMAGE_PROPERTIES:
            assert float(row[name]) == getattr(image.properties, name)
    average = sum(float(row["executed_gflops"]) for row in rows) / len(rows)
    assert average == pytest.approx(result.costs.average.executed / 1e9, rel=1e-12)


def test_image_without_labelled_pixels_has_empty_cells(result, tmp_path):
    images = (replace(result.images[0], scores=None, image_id="with, comma"), *result.images[1:])
    write({"fakes": replace(result, images=images)}, tmp_path)
    with (tmp_path / "per_image.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert (row["image_id"], row["mIoU"], row["pACC"]) == ("with, comma", "", "")
    assert float(row["expected_gflops"]) > 0


def test_optional_contents(result, tmp_path):
    """Boundary IoU, official scores, skipped samples, several passes."""
    classes = tuple(replace(score, boundary_iou=score.iou and score.iou / 2) for score in result.metrics.classes)
    official = OfficialScores(
        source="some script 1.2",
        mean_class_iou=0.25,
        mean_category_iou=0.75,
        class_iou={**dict.fromkeys(NAMES, 0.125), "never": None},
        category_iou={"thing": 0.5, "stuff": 1.0},
    )
    richer = replace(
        result,
        metrics=replace(result.metrics, classes=classes, mean_boundary_iou=0.375),
        official=official,
        skipped=(SkippedSample(7, "seven.png is damaged"),),
        images=(replace(result.images[0], input_sizes=((8, 8),) * 6), *result.images[1:]),
    )
    write({"fakes": richer}, tmp_path)
    values = json.loads((tmp_path / "results.json").read_text())["datasets"]["fakes"]
    assert values["mBIoU"] == 0.375
    assert [values["classes"][score.name]["boundary_IoU"] for score in classes] == [s.boundary_iou for s in classes]
    assert values["official"] == {
        "source": "some script 1.2",
        "mean_class_IoU": 0.25,
        "mean_category_IoU": 0.75,
        "class_IoU": official.class_iou,
        "category_IoU": official.category_iou,
    }
    assert values["skipped"] == [{"sample": 7, "reason": "seven.png is damaged"}]
    text = (tmp_path / "results.md").read_text()
    rows = markdown_rows(text)
    assert rows["class"] == ["IoU (%)", "accuracy (%)", "boundary IoU (%)", "official IoU (%)"]
    assert rows["disc"][2:] == [f"{100 * classes[1].boundary_iou:.2f}", "12.50"] and rows["never"] == ["absent"] * 4
    assert (rows["thing"], rows["mean of categories"], rows["mean of classes"]) == (["50.00"], ["75.00"], ["25.00"])
    assert "Skipped 1 unusable samples" in text and "some script 1.2" in text and "Up to 6 forward passes" in text
    plain = format_text(result)
    assert not any(word in plain for word in ("boundary", "fficial", "unusable", "passes"))


def test_a_route_is_described_and_drawn_if_it_is_fixed(result, tmp_path):
    learned = ["layer0_stride4.keep=gate", "layer1_stride4.keep"]
    for entries, sentence in (
        (["layer0_stride4.down=0.5", "layer1_stride8.keep"], "Route: 2 of the 4 edges of the lattice, the same for"),
        (learned, "Route: 2 of the 4 edges of the lattice, 1 of them with learned gates."),
    ):
        route, gates = Route.parse(LATTICE, entries), None if "gate" not in entries[0] else result.gates
        write({"fakes": replace(result, gates=gates)}, tmp_path, route=route)
        assert json.loads((tmp_path / "results.json").read_text())["route"] == entries
        text = (tmp_path / "results.md").read_text()
        assert sentence in text and "](route.png)" in text
        assert ("Fixed route" in text) == route.is_fixed
    halved = Route(LATTICE, dict.fromkeys(LATTICE.edges, 0.5))
    assert "Fixed route" in write_markdown(replace(result, gates=None), tmp_path / "halved", route=halved)
    assert json.loads((tmp_path / "halved" / "results.json").read_text())["route"] == halved.entries()
    whole = Route.whole(LATTICE, gated=False)
    text = write_markdown(replace(result, gates=None), tmp_path / "whole", route=whole)
    assert "Route:" not in text and "Fixed route" not in text


def write_markdown(result, folder, **settings):
    write({"fakes": result}, folder, **settings)
    return (folder / "results.md").read_text()


def test_without_ground_truth_only_costs_are_reported(result, tmp_path):
    costs_only = replace(result, metrics=None, confusion=None)
    write({"fakes": costs_only}, tmp_path)
    values = json.loads((tmp_path / "results.json").read_text())["datasets"]["fakes"]
    assert set(values) == {"images", "skipped", "seconds_per_image", "costs_gflops", "mean_gates", "warnings"}
    assert "4 images, no ground truth, costs only" in (tmp_path / "results.md").read_text()
    assert "(%)" not in format_text(costs_only)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("gates.npz", "per_image.csv", "results.json", "results.md", "route.png")
    ]


def metrics_of(counts, *, rule):
    return segmentation_metrics(torch.tensor(counts), class_names="abcd", absent_rule=rule)


def test_remarks_on_absent_classes(result):
    """Classes c and d are absent; only c is predicted."""
    counts = [[5, 1, 2, 0], [0, 8, 0, 0], [0] * 4, [0] * 4]

    def remarks(counts, rule):
        text = format_text(replace(result, metrics=metrics_of(counts, rule=rule)))
        return [line for line in text.splitlines() if "ground truth" in line or "zero_if_predicted" in line]

    excluded, zero = (remarks(counts, rule) for rule in ("exclude", "zero_if_predicted"))
    assert excluded == [
        "Not in the ground truth, excluded from all means: c, d.",
        "Of these, predicted: c. With TEST.ABSENT_CLASSES: zero_if_predicted, their IoU would be 0 in the mIoU.",
    ]
    assert zero == [
        "Not in the ground truth, excluded from all means: d.",
        "Predicted but not in the ground truth, IoU of 0 in the mIoU: c.",
    ]
    everywhere = torch.ones(4, 4, dtype=torch.int64).tolist()
    assert remarks(everywhere, "exclude") == remarks(everywhere, "zero_if_predicted") == []


def test_report_data_is_written_if_it_was_collected(result, tmp_path):
    data = report_data()
    write({"one": replace(result, report_data=data), "two": result}, tmp_path)
    assert read_report_data(tmp_path / "report_data_one.npz").thumbnails == data.thumbnails
    assert not (tmp_path / "report_data_two.npz").exists()
    write({"one": result}, tmp_path)
    assert not list(tmp_path.glob("report_data*"))


def test_several_data_sets_share_the_files_and_have_figures_each(result, tmp_path):
    results = {"one": result, "two": result}
    paths = write(results, tmp_path)
    assert {path.name for path in paths} == {
        *("results.json", "results.md", "per_image_one.csv", "per_image_two.csv", "confusion_one.csv"),
        *("confusion_two.csv", "confusion_one.png", "confusion_two.png", "route_one.png", "route_two.png"),
        *("gates_one.npz", "gates_two.npz"),
    }
    data = json.loads((tmp_path / "results.json").read_text())["datasets"]
    assert data["one"] == data["two"] and "budget_gflops" not in data["one"]


def test_names_from_data_are_escaped(tmp_path):
    names = ("=1+2|3", "<b>\n# title", "\x1b[31mred", "$x$")
    evaluator = SemSegEvaluator("a|b", class_names=names, ignore_value=IGNORE)
    samples = [{**sample, "image_id": "-id", "file_name": "/data/stra\udcdfe,\n.png"} for sample in make_samples(1)]
    result = inference_on_dataset(ModelOfLattice(), batches_of(samples), evaluator)
    write({"a|b": result}, tmp_path)
    rows = list(csv.reader((tmp_path / "confusion.csv").read_text().splitlines()))
    assert rows[0][1:] == [row[0] for row in rows[1:]] == ["'=1+2|3", r"<b>\n# title", r"\x1b[31mred", "$x$"]
    (image,) = csv.DictReader((tmp_path / "per_image.csv").read_text().splitlines())
    assert (image["image_id"], image["file_name"]) == ("'-id", r"/data/stra\xdfe,\n.png")
    text = (tmp_path / "results.md").read_text()
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in table[:6]} == {4}  # three columns
    assert r"=1+2\|3" in table[2] and r"&lt;b&gt;\\n# title" in table[3] and r"\\x1b\[31mred" in table[4]
    assert r"## a\|b" in text and "](confusion.png)" in text and "\n# title" not in text
    terminal = format_text(result)
    assert r"<b>\n# title" in terminal and r"\x1b[31mred" in terminal and "\x1b" not in terminal
    assert list(json.loads((tmp_path / "results.json").read_text())["datasets"]["a|b"]["classes"]) == list(names)


def test_files_of_an_earlier_evaluation_are_removed(result, tmp_path):
    write({"one": result, "two": result}, tmp_path)
    (tmp_path / "route_notes.png").touch()  # of the user
    write({"two": result}, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*FILES, "route_notes.png"])


def test_failed_write_keeps_the_old_file(folder, result, monkeypatch):
    before = (folder / "results.json").read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write({"other": result}, folder)
    assert (folder / "results.json").read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == FILES
