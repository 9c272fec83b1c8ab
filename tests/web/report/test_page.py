"""Report page: values of the runs, escaped text, and no other sources than the page itself."""

import base64
import hashlib
import io
import json
import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dl_lib.evaluation.report.gates_file import ImageGates
from dl_lib.evaluation.scores.bootstrap import bootstrap_difference, bootstrap_iou
from dl_lib.evaluation.scores.image_encoding import decode_class_indices
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.web.report.calibration import calibration_of, reliability
from dl_lib.web.report.classes import class_rows
from dl_lib.web.report.explorer import explorer
from dl_lib.web.report.page import report_page
from dl_lib.web.report.routing import route_values, routing_of
from dl_lib.web.report.run_data import DatasetResult, read_run
from dl_lib.web.report.samples import sample_groups
from tests.helpers.evaluated_run import make_evaluated_run

HOSTILE = "</script><script>alert(1)</script>\"' <b>語"


class Page(HTMLParser):
    """Tags with their attributes, text of the table cells, and content of the scripts."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.cells, self.scripts = [], [], []
        self._inside = []
        self.feed(html)
        assert self._inside == [], "every element is closed"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "link", "line", "circle", "rect"):
            self._inside.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
        if tag == "script":
            self.scripts.append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in ("line", "circle"):
            return
        assert self._inside.pop() == tag

    def handle_data(self, text):
        if self._inside and self._inside[-1] == "script":
            self.scripts[-1] += text
        if "td" in self._inside or "th" in self._inside:
            self.cells[-1] += text


def page_of(*folders):
    return report_page([read_run(folder, among=folders) for folder in folders])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    first = make_evaluated_run(folder / "first")
    return first, make_evaluated_run(folder / "second", seed=1, overrides=["SEED", 7])


def test_scores_costs_and_differences_of_two_runs(runs):
    page = Page(page_of(*runs))
    first, second = ({**json.loads((run / "results.json").read_text())["datasets"]["some_val"]} for run in runs)
    for values in (first, second):
        assert f"{100 * values['mIoU']:.2f}" in page.cells
        assert f"{values['costs_gflops']['real']['avg']:.4g}" in page.cells
    for name in ("disc", "bar"):
        ious = [values["classes"][name]["IoU"] for values in (first, second)]
        row = page.cells.index(name)
        expected = [*(f"{100 * iou:.2f}" for iou in ious), f"{100 * (ious[1] - ious[0]):+.2f}"]
        assert page.cells[row + 1 : row + 6 : 2] == expected
    assert page.cells[page.cells.index("SEED") + 2 :][:2] == ["0", "7"]
    assert page.cells.count("0:00:40") == 2


def test_every_image_is_a_point_and_its_gates_are_those_of_the_evaluation(runs):
    page = Page(page_of(*runs))
    values = json.loads(page.scripts[0])
    points = [attributes for tag, attributes in page.tags if tag == "circle" and "data-image" in attributes]
    assert len(points) == 2 * 12
    for run, folder in zip(values["runs"], runs, strict=True):
        gates = read_run(folder, among=runs).datasets["some_val"].gates
        assert values["images"] == [*gates.image_ids]
        assert run["gates"] == pytest.approx(gates.gates.round(3))
        assert run["mean"] == pytest.approx(gates.gates.mean(axis=0).tolist())


def test_the_page_needs_no_other_source(runs):
    html = page_of(*runs)
    page = Page(html)
    sources = [value for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")]
    assert all(source.startswith(("data:image/", "#")) for source in sources)
    targets = {attributes.get("id") for _, attributes in page.tags}
    assert {source[1:] for source in sources if source.startswith("#")} <= targets
    (policy,) = [a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv")]
    digest = base64.b64encode(hashlib.sha256(page.scripts[-1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org)", re.sub(r"data:image[^\"]*", "", html))


def test_names_are_escaped(tmp_path):
    names = [HOSTILE, "disc", "bar", "never"]
    page = Page(page_of(make_evaluated_run(tmp_path / "<b>run", names=names, ids=[HOSTILE])))
    assert HOSTILE in page.cells
    assert [tag for tag, _ in page.tags].count("script") == 2 and "alert(1)" not in page.scripts[-1]
    assert json.loads(page.scripts[0])["images"][0] == HOSTILE
    assert not any(tag == "b" for tag, _ in page.tags)


def test_a_run_with_results_only(tmp_path):
    folder = make_evaluated_run(tmp_path / "run")
    for path in folder.iterdir():
        if path.name != "results.json":
            path.unlink()
    html = page_of(folder)
    assert "per_image.csv cannot be read" in html
    assert "No config was found." in html and "No log of a training was found." in html
    assert Page(html).scripts[0] != ""


@pytest.mark.parametrize("value", [10**400, 1e100, float("nan"), -2, "1", [1]])
def test_implausible_numbers_are_not_shown(runs, value):
    result = read_run(runs[0], among=runs).datasets["some_val"]
    routes = {"entropy_bits": value, "distinct_routes": value, "cost_correlations": {"objects": {"value": value}}}
    costs = {"layer0_stride4.keep": value}
    lattice = {"transitions_gflops": costs, "shapes": {"layer1_stride4": [8, value, 2]}}
    routing = routing_of(replace(result, values={**result.values, "routes": routes, "lattice": lattice}), run="first")
    statistics = dict(routing["statistics"])
    for name in ("entropy of the routes", "distinct routes", "rank correlation of cost with number of objects"):
        assert statistics[name] == "-"
    (name, *_, cost, shape) = routing["edges"][0]
    assert (name, cost, shape) == ("layer0_stride4.keep", "-", "-")


def test_curves_and_time_of_a_training_with_huge_numbers(tmp_path, runs):
    folder = Path(shutil.copytree(runs[0], tmp_path / "run"))
    lines = [{"iteration": at, "total_loss": 1e99 / at, "iteration_seconds": 1e99} for at in (1, 2**53)]
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    html = page_of(folder)
    assert "0:00:40" not in Page(html).cells and "Training curves" in html


def test_of_many_scalars_and_iterations_the_page_has_a_part(tmp_path, runs, monkeypatch):
    monkeypatch.setattr("dl_lib.web.report.overview.MOST_CURVES", 2)
    folder = Path(shutil.copytree(runs[0], tmp_path / "run"))
    (first, second) = ({"iteration": at, "zzz": at, "loss_a": at, "total_loss": at % 7} for at in (1, 2))
    (folder / "metrics.json").write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    html = page_of(folder)
    assert "2 of 3 scalars; dl_lib plot-metrics draws the others." in html
    (svg,) = re.findall(r'data:image/svg\+xml;base64,([^"]*)" alt="Training curves', html)
    small = base64.b64decode(svg).decode()
    assert "total loss" in small and "loss: a" in small and "zzz" not in small
    lines = ({"iteration": at, "loss_a": at % 7, "total_loss": at % 5} for at in range(1, 20_000))
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (svg,) = re.findall(r'data:image/svg\+xml;base64,([^"]*)" alt="Training curves', page_of(folder))
    assert len(base64.b64decode(svg)) < len(small) + 2 * 500 * 40


def test_names_that_are_not_utf_8_are_escaped(tmp_path):
    r"""Bytes of a file name that are not UTF-8, and escapes such as `\ud800` in JSON."""
    folder = make_evaluated_run(tmp_path / os.fsdecode(b"run\xff"), ids=["\ud800"])
    for name, old, new in [("results.json", "some_val", "\\udfff"), ("results.json", '"disc"', '"\\ud800\\u202e"')]:
        (folder / name).write_text((folder / name).read_text().replace(old, new))
    (folder / "confusion.csv").write_text((folder / "confusion.csv").read_text().replace("disc", r"\ud800\u202e"))
    (folder / "metrics.json").write_text('{"iteration": 1, "\\ud800": 1}\n{"iteration": 2, "\\ud800": 2}\n')
    html = page_of(folder)
    page = Page(html)
    html.encode()
    assert "Missing data" not in html and r"\ud800\u202e" in page.cells and r"\udfff" in page.cells
    (run,) = json.loads(page.scripts[0])["runs"]
    names = [attributes["data-run"] for tag, attributes in page.tags if tag == "figure" and "data-run" in attributes]
    assert names == [run["name"]] == [r"run\xff"]


def png_of(address):
    media_type, _, content = address.partition(";base64,")
    assert media_type == "data:image/png"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB"))


def test_the_worst_images_have_label_prediction_and_difference(runs):
    result = read_run(runs[0], among=runs).datasets["some_val"]
    groups = sample_groups({"first": result})
    assert [(group["title"], len(group["samples"])) for group in groups] == [
        ("Worst images", 10),
        ("Most expensive images", 10),
    ]
    assert all(group["has_labels"] for group in groups)
    scores = sorted(row.mean_iou for row in result.images)
    for sample, drawn, score in zip(result.data.worst, groups[0]["samples"], scores, strict=False):
        assert drawn["id"] == sample.image_id and drawn["text"].startswith(f"mIoU {100 * score:.2f} %, ")
        label, prediction = map(decode_class_indices, (sample.label, sample.prediction))
        names = [name for name, _ in drawn["parts"]]
        assert names == ["image", "label", "prediction", "difference"]
        shown = dict(drawn["parts"])
        known = label < 4
        np.testing.assert_array_equal(png_of(shown["prediction"]), result.data.class_colors[prediction])
        np.testing.assert_array_equal(png_of(shown["label"])[known], result.data.class_colors[label[known]])
        assert not png_of(shown["label"])[~known].any()
        red = png_of(shown["difference"])[..., 0]
        np.testing.assert_array_equal(red, np.where(~known, 0, np.where(label == prediction, 227, 213)))


def test_calibration_is_that_of_the_counts(runs):
    result = read_run(runs[0], among=runs).datasets["some_val"]
    counts = result.data.calibration
    bins = reliability(counts)
    filled = counts.pixels > 0
    assert np.isnan(bins.accuracy[~filled]).all() and bins.pixel_ratio.sum() == pytest.approx(1)
    error = (np.abs(bins.accuracy - bins.confidence)[filled] * bins.pixel_ratio[filled]).sum()
    assert calibration_of({"first": result})["errors"] == [("first", f"{100 * error:.2f}")]


def test_notes_of_edges_state_cost_and_shape():
    lattice = Lattice([2])
    gates = ImageGates(lattice, ("a",), np.ones((1, 4)))
    edges = {str(edge): (number + 1) / 8 for number, edge in enumerate(lattice.edges)}
    shapes = {str(node): [8, 4, 2] for node in (*lattice.nodes, *lattice.outputs)}
    values = {"lattice": {"transitions_gflops": edges, "shapes": shapes}}
    result = DatasetResult(values=values, images=(), confusion=None, gates=gates, data=None)
    assert route_values(result, ["a"])["notes"] == [
        f"open for 100.00 % of the images\ntransition: {cost:.4g} GFLOPs, to a tensor of 8x4x2"
        for cost in edges.values()
    ]
    (unknown, *_) = route_values(replace(result, values={}), ["a"])["notes"]
    assert unknown == "open for 100.00 % of the images\ntransition: - GFLOPs, to a tensor of -"


def test_intervals_are_those_of_the_bootstrap(runs):
    results = {run.name: read_run(run, among=runs).datasets["some_val"] for run in runs}
    counts = [result.data.class_counts for result in results.values()]
    mean, *classes = class_rows(results)
    low, high = 100 * bootstrap_iou(counts[0]).mean
    assert (mean["name"], mean["cells"][0]["interval"]) == (None, f"{low:.1f} to {high:.1f}")
    low, high = 100 * bootstrap_difference(*counts).classes[1]
    assert (classes[1]["name"], classes[1]["cells"][1]["difference_interval"]) == ("disc", f"{low:.1f} to {high:.1f}")
    assert classes[3]["cells"][0]["interval"] == "", "the class is not in the ground truth"
    other = results["second"]
    swapped = replace(other.data, image_ids=other.data.image_ids[::-1], class_counts=counts[1][::-1])
    reordered = class_rows({**results, "second": replace(other, data=swapped)})[2]["cells"][1]
    assert reordered["difference_interval"] == f"{low:.1f} to {high:.1f}", "images are paired by name"
    fewer = replace(other.data, image_ids=other.data.image_ids[1:], class_counts=counts[1][1:])
    assert class_rows({**results, "second": replace(other, data=fewer)})[1]["cells"][1]["difference_interval"] == ""


def test_of_many_images_those_with_a_thumbnail_are_shown(runs, monkeypatch):
    result = read_run(runs[0], among=runs).datasets["some_val"]
    some = dict([*result.data.thumbnails.items()][1::4])
    partial = replace(result, data=replace(result.data, thumbnails=some))
    found = explorer({"first": partial})
    assert found["num_images"] == 12 and found["data"]["images"] == [*some]
    assert all(address.startswith("data:image/jpeg;base64,") for address in found["data"]["thumbnails"])
    monkeypatch.setattr("dl_lib.web.report.explorer.MOST_IMAGES", 4)
    images = explorer({"first": replace(result, data=None)})["data"]["images"]
    assert images == [row.image_id for row in result.images[::3]]


def test_images_without_routes_scores_or_table(runs):
    result = read_run(runs[0], among=runs).datasets["some_val"]
    rows = tuple(replace(row, mean_iou=None) for row in result.images)
    results = {
        "scored": replace(result, gates=None),
        "unlabelled": replace(result, images=rows[1:]),
        "no table": replace(result, images=()),
    }
    found = explorer(results)
    texts = {run["name"]: run["texts"][:2] for run in found["data"]["runs"]}
    cost = texts["unlabelled"][1]
    assert cost.endswith(" GFLOPs") and "mIoU" not in cost
    assert texts["scored"][1] == f"mIoU {100 * result.images[1].mean_iou:.2f} %, {cost}"
    assert texts["unlabelled"][0] == "not evaluated"
    assert texts["no table"] == 2 * ["score and cost not available"]
    assert found["plot"]["runs"] == [(0, "scored")]


def test_a_static_network_has_no_routes(runs):
    run = read_run(runs[0], among=runs)
    static = replace(run.datasets["some_val"], gates=None)
    html = report_page([replace(run, datasets={"some_val": static})])
    assert "<h3>Images</h3>" in html and "route" not in html.partition("<main>")[2].partition("</main>")[0]
