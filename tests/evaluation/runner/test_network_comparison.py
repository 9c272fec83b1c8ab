"""Evaluation of two networks on the same images, and the peak memory of a forward pass."""

import dataclasses

import pytest
import torch
from torch import nn

from dl_lib.config import get_cfg
from dl_lib.data import DatasetCatalog, build_test_loader
from dl_lib.evaluation.report.network_comparison import comparison_as_dict, format_comparison
from dl_lib.evaluation.runner.build import build_plain_evaluator
from dl_lib.evaluation.runner.network_comparison import compare_networks
from dl_lib.evaluation.runner.peak_memory import peak_memory_bytes
from dl_lib.evaluation.runner.run import inference_on_dataset
from dl_lib.modeling import build_model
from tests.helpers.small_run import DATASET, SMALL, register


@pytest.fixture(scope="module")
def comparison():
    """Comparison of a network with its copy, whose logits of class 3 are larger by 1000."""
    register()
    cfg = get_cfg()
    cfg.merge_from_list([*SMALL, "TEST.OPTIMIZE", False])
    torch.manual_seed(0)
    before, after = build_model(cfg), build_model(cfg)
    after.load_state_dict(before.state_dict())
    with torch.no_grad():
        after.sem_seg_head.predictor.bias[3] += 1000
    return cfg, before, after, compare_networks(cfg, before, after, dataset_name=DATASET)


def test_results_and_differences_are_those_of_single_evaluations(comparison):
    cfg, before, after, compared = comparison
    differences, pixels, differing, samples = [], 0, 0, []
    for (sample,) in build_test_loader(cfg, DATASET):
        with torch.inference_mode():
            one, other = (model.eval()([sample])[0]["sem_seg"] for model in (before, after))
        differences.append(((one - other).abs().max() / one.abs().max()).item())
        pixels += one[0].numel()
        samples.append(sample)
        differing += int((one.argmax(0) != other.argmax(0)).sum())
    assert compared.logits_difference == pytest.approx(max(differences), rel=1e-4)
    assert compared.label_difference == pytest.approx(differing / pixels, abs=1e-3)
    assert 0 < differing < pixels
    for model, measured in ((before, compared.before), (after, compared.after)):
        loader, evaluator = build_test_loader(cfg, DATASET), build_plain_evaluator(cfg, DATASET)
        result = inference_on_dataset(model, loader, evaluator)
        assert (result.metrics, result.costs) == (measured.result.metrics, measured.result.costs)
        assert measured.parameters == sum(parameter.numel() for parameter in model.parameters())
        costliest = max(range(len(samples)), key=lambda index: compared.before.result.images[index].costs.real)
        assert measured.peak_memory_bytes == peak_memory_bytes(model, [samples[costliest]])


def test_table_and_values(comparison):
    compared = comparison[-1]
    route = compared.after.route
    half = dataclasses.replace(compared.after, parameters=compared.before.parameters // 2, peak_memory_bytes=2**19)
    text = format_comparison(dataclasses.replace(compared, after=half), style="github")
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells[2:5]]
        for cells in (row.split("|") for row in text.splitlines()[2:14])
        if len(cells) > 4
    }
    assert rows["edges"] == ["10", "10", "+0.0 %"] and rows["parameters"][2] == "-50.0 %"
    assert rows["peak memory (MiB)"][1] == "0.50"
    assert rows["mIoU (%)"][1] == f"{100 * half.result.metrics.mean_iou:.2f}"
    values = comparison_as_dict(compared, environment={"device": "a"})
    assert values["after"]["learned_gates"] == len(route.edges) and values["environment"] == {"device": "a"}
    assert values["dataset"] == DATASET and values["before"]["mIoU"] == compared.before.result.metrics.mean_iou


def test_each_network_is_warmed_up_at_each_image_size(comparison):
    cfg, before, after, _ = comparison
    images = [sample["image"].shape for (sample,) in build_test_loader(cfg, DATASET)]
    shapes = {model: [] for model in (before, after)}
    hooks = [
        model.register_forward_pre_hook(lambda model, inputs: shapes[model].append(inputs[0][0]["image"].shape))
        for model in shapes
    ]
    compare_networks(cfg, before, after, dataset_name=DATASET)
    for hook in hooks:
        hook.remove()
    for seen in shapes.values():
        *compared, _ = seen  # the last forward pass measures the memory
        assert all(compared.count(shape) == images.count(shape) + 1 for shape in images)


def test_unlabelled_datasets_have_no_scores(monkeypatch):
    register()
    cfg = get_cfg()
    cfg.merge_from_list(SMALL)
    meta = dataclasses.replace(DatasetCatalog.meta(DATASET), labelled=False)
    monkeypatch.setattr(DatasetCatalog, "_entries", dict(DatasetCatalog._entries))
    DatasetCatalog.register("unlabelled_scenes", DatasetCatalog.loader(DATASET), meta)
    model = build_model(cfg)
    text = format_comparison(compare_networks(cfg, model, model, dataset_name="unlabelled_scenes"), style="simple")
    assert "mIoU" not in text and "logits by up to 0 " in text


def test_peak_memory_is_that_of_tensors_that_exist_at_the_same_time():
    model = nn.Sequential(nn.Linear(100, 1000), nn.Linear(1000, 10), nn.Linear(10, 100))
    assert peak_memory_bytes(model, torch.zeros(1, 100)) == 4 * (1000 + 10)
    assert model.training
