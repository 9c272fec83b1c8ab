"""Run with a budget in milliseconds on a synthetic latency table: training, reports, resume."""

import csv
import json

import numpy as np
import pytest
import torch

from dl_lib.config import get_cfg
from dl_lib.evaluation import evaluate_datasets
from dl_lib.modeling.costs.latency_file import configured_latency
from tests.helpers.latency import write_latency
from tests.helpers.small_run import DATASET, SMALL, make_trainer, metrics, train

SIZE = (96, 96)  # of the scenes


def small_config(*overrides):
    cfg = get_cfg()
    cfg.merge_from_list([*SMALL, *overrides])
    return cfg


@pytest.fixture(scope="module")
def table_path(tmp_path_factory):
    torch.set_num_threads(1)  # as in the run
    return write_latency(tmp_path_factory.mktemp("table"), small_config(), SIZE)


@pytest.fixture(scope="module")
def overrides(table_path):
    return [
        *("INPUT.CROP_SIZE", list(SIZE), "MODEL.BUDGET.TARGET_UNIT", "ms", "MODEL.BUDGET.TARGET", 12.0),
        *("MODEL.BUDGET.LATENCY_TABLE", table_path),
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, overrides):
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dl_lib.engine.defaults.CALIBRATION_IMAGES", 8)
        train(folder, overrides)
    return folder


def test_the_sign_of_the_weight_is_that_of_the_deviation_from_the_target(folder, overrides):
    table = configured_latency(small_config(*overrides))
    last = metrics(folder)[-1]
    assert table.all_closed(table.conditions.route, runs_unreached=False) <= last["budget_cost"] <= table.dense
    assert last["budget_error"] == pytest.approx(last["budget_mean_cost"] / 12 - 1)
    assert last["loss_budget"] != 0 and last["budget_weight"] * (last["budget_mean_cost"] - 12) > 0


def test_reports_show_predicted_and_measured_latency(folder, overrides):
    table = configured_latency(small_config(*overrides))
    latency = json.loads((folder / "results.json").read_text())["datasets"][DATASET]["latency_ms"]
    with (folder / "per_image.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    predicted = [float(row["predicted_ms"]) for row in rows]
    measured = [1e3 * float(row["seconds"]) for row in rows]
    for name, values in (("predicted", predicted), ("measured", measured)):
        expected = {"avg": np.mean(values), "median": np.median(values), "max": max(values), "min": min(values)}
        assert latency[name] == pytest.approx(expected)
    assert (latency["images"], latency["target"], latency["differences"]) == (5, 12.0, [])
    assert latency["median_error"] == pytest.approx(np.median(np.abs(np.divide(predicted, measured) - 1)))
    with np.load(folder / "gates.npz") as file:
        opened = file["gates"] > 0
    costs = np.array([table.transitions[edge] for edge in table.lattice.edges])
    assert all(
        low < ms < table.dense + 1e-6 for low, ms in zip(table.unconditional + opened @ costs, predicted, strict=True)
    )
    report = (folder / "results.md").read_text()
    assert "| ms per image" in report and "| target " in report and "Latency of 5 of 5 images." in report
    assert "budget" not in json.loads((folder / "results.json").read_text())["datasets"][DATASET]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ["MODEL.BUDGET.LATENCY_TABLE", "missing.json", "DATASETS.TEST", [DATASET, DATASET]],
            "No latency is predicted: MODEL.BUDGET.LATENCY_TABLE cannot",
        ),
        (["TEST.OPTIMIZE", False], "this evaluation has TEST.OPTIMIZE=False, the slower model itself."),
    ],
)
def test_evaluations_under_other_conditions(tmp_path, overrides, changes, message):
    model = make_trainer(tmp_path / "run", overrides).model
    evaluate_datasets(small_config(*overrides, *changes), model, tmp_path)
    assert (tmp_path / "run" / "log.txt").read_text().count(message) == 1
