"""Warnings about evaluations: sentences of the cases, and their places in the report files."""

import json
from dataclasses import replace

import pytest
import torch

from dl_lib.evaluation.report.warnings import result_warnings
from dl_lib.evaluation.runner.run import inference_on_dataset
from dl_lib.evaluation.scores.evaluator import SemSegEvaluator
from dl_lib.evaluation.scores.metrics import segmentation_metrics
from dl_lib.evaluation.scores.routes import MIN_IMAGES
from dl_lib.modeling.dynamic.route import Route
from tests.helpers.evaluation import IGNORE, NAMES, batches_of, make_samples
from tests.helpers.reports import LATTICE, WHOLE, ModelOfLattice, write

NUM_EDGES = len(LATTICE.edges)


@pytest.fixture(scope="module")
def result():
    evaluator = SemSegEvaluator("fakes", class_names=NAMES, ignore_value=IGNORE)
    return inference_on_dataset(ModelOfLattice(), batches_of(make_samples(MIN_IMAGES)), evaluator)


def with_gates(result, *rows):
    """Return a result in which the images have these gates in turn."""
    gates = torch.tensor([rows[index % len(rows)] for index in range(MIN_IMAGES)], dtype=torch.float64)
    return replace(result, gates=gates)


def test_result_without_problems_has_no_warning(result):
    """An absent class that is not predicted is none."""
    assert result.metrics.absent == ("never",)
    assert result_warnings(result, route=WHOLE) == ()


def test_labelled_classes_that_are_never_predicted_are_named(result):
    counts = torch.tensor([[90, 10, 0, 0], [5, 5, 0, 0], [8, 0, 0, 0], [0, 0, 0, 0]])
    missed = replace(result, metrics=segmentation_metrics(counts, class_names=NAMES))
    assert result_warnings(missed) == ("Never predicted, although labelled: 'bar' (1 of 3 classes).",)


def test_imbalance_of_the_labels_is_named(result):
    counts = torch.tensor([[9000, 0, 0, 0], [1, 3, 0, 0], [0, 0, 99, 0], [0, 0, 0, 0]])
    (warning,) = result_warnings(replace(result, metrics=segmentation_metrics(counts, class_names=NAMES)))
    assert warning.startswith("Class imbalance of 1:2,250, beyond 1:1000: 4 labelled pixels of 'disc', 9,000 of ")


def test_saturated_gates_are_counted(result):
    ends = [1.0, 0.9995, *[0.0] * (NUM_EDGES - 2)]
    (warning,) = result_warnings(with_gates(result, ends), route=WHOLE)
    assert warning == (
        "The network is effectively static: of the 2 edges that are open for any image, 0 (0.0 %) depend on the image, "
        f"and of {NUM_EDGES} learned gates, {NUM_EDGES - 2} are 0 and 2 are 1 for every image; see docs/routing.md."
    )
    (warning,) = result_warnings(with_gates(result, [0.0] * NUM_EDGES), route=WHOLE)
    assert warning.startswith("The network is effectively static: all gates are closed for every image")


def test_static_soft_gates_are_not_saturated(result):
    (warning,) = result_warnings(with_gates(result, [0.4] * NUM_EDGES, [0.7] * NUM_EDGES), route=WHOLE)
    assert "effectively static" in warning and "learned" not in warning
    assert result_warnings(with_gates(result, [0.4] * NUM_EDGES, [0.0] * NUM_EDGES), route=WHOLE) == ()


def test_values_that_are_almost_closed_are_saturated(result):
    (warning,) = result_warnings(with_gates(result, [5e-4] * NUM_EDGES, [0.0] * NUM_EDGES), route=WHOLE)
    assert warning == (
        f"Saturated gates: of {NUM_EDGES} learned gates, {NUM_EDGES} are 0 and 0 are 1 for every image; "
        "see docs/routing.md."
    )


def test_fixed_gates_of_a_route_are_not_counted(result):
    first, *others = LATTICE.edges
    route = Route(LATTICE, {first: 1.0, **dict.fromkeys(others)})
    values = [1.0] * NUM_EDGES
    (warning,) = result_warnings(with_gates(result, values), route=route)
    assert f"of {NUM_EDGES - 1} learned gates, 0 are 0 and {NUM_EDGES - 1} are 1" in warning


def test_few_images_give_no_warning_about_gates(result):
    few = replace(result, images=result.images[:5], gates=torch.zeros(5, NUM_EDGES, dtype=torch.float64))
    assert result_warnings(few, route=WHOLE) == ()


def test_warnings_are_in_the_report_files(result, tmp_path):
    counts = torch.tensor([[90, 0, 0, 0], [0, 9, 0, 0], [8, 0, 0, 0], [0, 0, 0, 0]])
    names = ("road", "car", "<b>*pole*</b>", "never")
    missed = replace(result, metrics=segmentation_metrics(counts, class_names=names))
    write({"fakes": missed}, tmp_path)
    sentence = "Never predicted, although labelled: '<b>*pole*</b>' (1 of 3 classes)."
    assert json.loads((tmp_path / "results.json").read_text())["datasets"]["fakes"]["warnings"] == [sentence]
    escaped = r"'&lt;b&gt;\*pole\*&lt;/b&gt;'"
    assert (
        f"\n\n**Warning:** Never predicted, although labelled: {escaped} (1 of 3"
        in (tmp_path / "results.md").read_text()
    )
