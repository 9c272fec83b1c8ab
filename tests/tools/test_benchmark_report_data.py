"""Benchmark of the cost of report data: its table, and evaluations with and without the data."""

import pytest
from report_data import DATASET, WITH, WITHOUT, cost_table, load, measure, register_synthetic
from synthetic_images import NUM_CLASSES

from dl_lib.data import DatasetCatalog


def test_cost_is_the_median_ratio_of_rounds():
    samples = {WITHOUT: (1.0, 2.0, 4.0), WITH: (1.1, 2.1, 4.04)}
    table = cost_table(samples, images=100)
    (row,) = table.rows
    assert row[:3] == pytest.approx((20, 21, 5))
    assert row[3] == "1.0 to 10.0"


def test_evaluates_with_and_without_the_data(tmp_path, monkeypatch):
    monkeypatch.setattr(DatasetCatalog, "_entries", dict(DatasetCatalog._entries))
    register_synthetic(tmp_path, count=2, size=(32, 64))
    opts = [
        f"MODEL.SEM_SEG_HEAD.NUM_CLASSES={NUM_CLASSES}",
        *(f"DATASETS.{key}=[{DATASET}]" for key in ("TRAIN", "TEST")),
    ]
    cfg, model = load("playground/Quickstart", ["MODEL.DEVICE=cpu", *opts])
    samples = measure(cfg, model, rounds=2)
    assert [len(samples[name]) for name in (WITHOUT, WITH)] == [2, 2]
