"""Latency of evaluated images: the images that a table applies to, and conditions unlike those of the table."""

import dataclasses

import pytest
import torch

from dl_lib.config import get_cfg
from dl_lib.evaluation.report.latency import latency_as_dict, latency_remarks, latency_tables
from dl_lib.evaluation.runner import latency
from dl_lib.evaluation.runner.latency import read_latency, summarize_latency
from dl_lib.evaluation.scores.result import ImageRecord
from dl_lib.modeling.costs.costs import Costs
from dl_lib.modeling.dynamic.routing import Routing
from tests.helpers.latency import latency_table
from tests.helpers.tiny_model import TINY, model_of


@pytest.fixture(scope="module")
def backbone():
    return model_of().backbone


def summary_of(backbone, *passes, overrides=(), device=None, gates=True):
    """Summary of images with these sizes of their passes, all gates open."""
    cfg = get_cfg()
    cfg.merge_from_list([*TINY, "DATALOADER.NUM_WORKERS", 0, *overrides])
    table = latency_table(cfg, (64, 96), device=device)
    zero = Costs(0.0, 0.0, 0.0, 0.0)
    images = [ImageRecord("", "", input_sizes=sizes, costs=zero, seconds=0.02, scores=None) for sizes in passes]
    every = Routing.all_open(backbone.lattice, num_images=len(images)).gates_BE if gates else None
    return table, summarize_latency(cfg, table=table, backbone=backbone, images=images, gates=every)


def test_table_applies_to_single_passes_of_its_padded_size(backbone):
    passes = ((64, 96),), ((50, 90),), ((96, 64),), ((64, 96), (64, 96))
    table, summary = summary_of(backbone, *passes)
    predicted = pytest.approx(table.dense)
    assert summary.predicted_ms == (predicted, predicted, None, None) and summary.target_ms is None
    assert summary.pairs == ((predicted, 20.0), (predicted, 20.0))
    assert summary.median_error == pytest.approx(abs(table.dense / 20 - 1))
    assert "Latency of 2 of 4 images." in latency_remarks(summary)[0]
    without = summary_of(backbone, ((64, 96),), gates=False)[1]
    for empty in (summary_of(backbone, passes[2])[1], without):
        assert latency_tables(empty, style="github") == [] and latency_as_dict(empty)["images"] == 0
        assert latency_remarks(empty)[0].startswith("No latency is predicted: the latency table of 64x96 on ")
    assert latency_tables(None, style="github") == latency_remarks(None) == []


@pytest.mark.parametrize(
    ("overrides", "device", "difference"),
    [
        ([], "GPU X", "instead of GPU X"),
        (["TEST.PRECISION", "bf16"], None, "precision bf16 instead of float32"),
        (["TEST.EXECUTION", "dense"], None, "TEST.EXECUTION=dense, which runs all parts"),
        (["TEST.OPTIMIZE", False], None, "TEST.OPTIMIZE=False, the slower model itself"),
        (["DATALOADER.NUM_WORKERS", 1], None, "DATALOADER.NUM_WORKERS=1, which compete with the model for 1 CPU cores"),
    ],
)
def test_differing_conditions_are_named(backbone, monkeypatch, overrides, device, difference):
    monkeypatch.setattr(latency, "usable_cores", lambda: 1)
    same = summary_of(backbone, ((64, 96),))[1]
    assert same.differences == () and len(latency_remarks(same)) == 1
    summary = summary_of(backbone, ((64, 96),), overrides=overrides, device=device)[1]
    (found,) = summary.differences
    assert difference in found and found in latency_remarks(summary)[1]


def test_other_threads_and_versions_are_named(backbone):
    cfg = get_cfg()
    cfg.merge_from_list([*TINY, "DATALOADER.NUM_WORKERS", 0])
    table = latency_table(cfg, (64, 96))
    other = dataclasses.replace(table.conditions, threads=table.conditions.threads + 1, versions={"torch": "1.0"})
    table = dataclasses.replace(table, conditions=other)
    summary = summarize_latency(cfg, table=table, backbone=backbone, images=[], gates=None)
    assert summary.differences == (
        f"torch {torch.__version__} instead of 1.0",
        f"CPU threads {other.threads - 1} instead of {other.threads}",
    )


@pytest.mark.parametrize(("rank", "warnings"), [(0, 1), (1, 0)])
def test_main_process_warns_about_a_table_that_cannot_be_used(monkeypatch, caplog, rank, warnings):
    monkeypatch.setattr(latency.comm, "is_main_process", lambda: rank == 0)
    cfg = get_cfg()
    cfg.merge_from_list([*TINY, "MODEL.BUDGET.LATENCY_TABLE", "missing.json"])
    assert read_latency(cfg, model_of()) is None
    assert [record.message.startswith("No latency is predicted") for record in caplog.records] == [True] * warnings
