"""Evaluation from a config to the output files, with a fake model and dataset."""

import json
import logging
import weakref
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from dl_lib.config import ConfigError, get_cfg
from dl_lib.data import DatasetMeta
from dl_lib.data.errors import UnlabelledDatasetError
from dl_lib.evaluation import IncompleteEvaluationError, SemSegEvaluator, evaluate_datasets, inference_on_dataset
from dl_lib.evaluation.runner import run as inference
from dl_lib.evaluation.runner.logged import logged_metrics
from dl_lib.modeling import build_model
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.modeling.dynamic.route import Route
from tests.helpers.evaluation import IGNORE, NAMES, FakeModel, batches_of, make_samples
from tests.helpers.published import TINY


class Tables:
    """Cost tables with 1 GFLOP for each operation, 2 for each gate, and 3 for each transition."""

    def table(self, height, width):
        lattice = Lattice([2])
        return SimpleNamespace(
            lattice=lattice,
            expected_all_open=1e6 * height * width,
            operations=dict.fromkeys(lattice.nodes, 10**9),
            gates=dict.fromkeys(lattice.nodes, 2 * 10**9),
            transitions=dict.fromkeys(lattice.edges, 3 * 10**9),
        )

    def padded_size(self, height, width):
        return height, width

    def channels(self, node):
        return 8 << node.scale


class RoutedModel(FakeModel):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.route = Route.whole(Lattice([2]), gated=True)
        self.costs = Tables()

    def output(self, sample):
        output = super().output(sample)
        return {**output, "gates": output["gates"][:4]}


@pytest.fixture
def cfg(monkeypatch):
    samples = {"first_val": make_samples(3), "second_val": make_samples(2, seed=1)}
    meta = DatasetMeta(class_names=NAMES, class_colors=((0, 0, 0),) * len(NAMES))
    monkeypatch.setattr(inference, "build_test_loader", lambda cfg, name: batches_of(samples[name]))
    monkeypatch.setattr(inference.DatasetCatalog, "meta", lambda name: meta)
    monkeypatch.setattr(inference, "show_images", lambda result, **settings: [])
    cfg = get_cfg()
    cfg.DATASETS.TEST = list(samples)
    return cfg


def test_every_data_set_is_evaluated_logged_and_written(cfg, tmp_path, caplog):
    cfg.MODEL.BUDGET.CONSTRAIN, cfg.MODEL.BUDGET.LOSS_MU = True, 0.5
    with caplog.at_level(logging.INFO, "dl_lib.evaluation"):
        results = evaluate_datasets(cfg, RoutedModel(), tmp_path)
    assert {name: result.num_images for name, result in results.items()} == {"first_val": 3, "second_val": 2}
    written = json.loads((tmp_path / "results.json").read_text())["datasets"]
    lattice = written["first_val"]["lattice"]
    assert lattice["input_size"] == [32, 64] and lattice["shapes"]["layer1_stride8"] == [16, 4, 8]
    assert (lattice["cells_gflops"]["layer0_stride4"], lattice["gates_gflops"]["layer0_stride4"]) == (1, 2)
    assert lattice["transitions_gflops"]["layer0_stride4.keep"] == 3
    assert {name: result.metrics.mean_iou for name, result in results.items()} == {
        name: values["mIoU"] for name, values in written.items()
    }
    # Alternating inputs of 32x64 and 64x64; the budget is half of 1 MFLOP per pixel.
    assert written["second_val"]["budget_gflops"]["target"] == pytest.approx(0.5 * (32 * 64 + 64 * 64) / 2 / 1e3)
    assert [name in caplog.text for name in ("first_val: 3 images", "second_val: 2 images")] == [True, True]
    files = [
        *("per_image_first_val.csv", "confusion_first_val.csv", "confusion_first_val.png", "route_first_val.png"),
        *("per_image_second_val.csv", "confusion_second_val.csv", "confusion_second_val.png", "route_second_val.png"),
        *("gates_first_val.npz", "gates_second_val.npz", "report_data_first_val.npz", "report_data_second_val.npz"),
        *("results.md", "results.json"),
    ]
    (line,) = (line for line in caplog.text.splitlines() if "Wrote evaluation results: " in line)
    assert sorted(line.rpartition(": ")[2].split(", ")) == sorted(files)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)
    assert (tmp_path / "route_first_val.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("overrides", "is_optimized"),
    [
        ([], True),
        (["TEST.OPTIMIZE", False], False),
        (["MODEL.COMPILE", True], True),
        (["TEST.EXECUTION", "compiled"], True),
    ],
)
def test_a_faster_copy_is_evaluated(overrides, is_optimized):
    cfg = get_cfg()
    cfg.merge_from_list([*TINY, "MODEL.DEVICE", "cpu", *overrides])
    model = build_model(cfg)
    evaluated = inference.optimized_copy(cfg, model)
    assert (evaluated is not model) == is_optimized
    assert evaluated.compiled == (cfg.TEST.EXECUTION == "compiled")


def test_models_with_weights_that_are_not_finite_are_evaluated_as_they_are(caplog):
    cfg = get_cfg()
    cfg.merge_from_list([*TINY, "MODEL.DEVICE", "cpu"])
    model = build_model(cfg)
    torch.nn.init.constant_(model.backbone.stem.conv1.conv.weight, torch.nan)
    assert inference.optimized_copy(cfg, model) is model
    assert "Evaluating the model itself instead of a faster copy: the weights must be finite" in caplog.text


class StaticModel(RoutedModel):
    def output(self, sample):
        return {**super().output(sample), "gates": torch.tensor([0.5, 0.5, 0.0, 0.0])}


@pytest.mark.parametrize("model", [RoutedModel(), StaticModel()], ids=["dynamic", "static"])
def test_routes_are_logged_and_effectively_static_networks_warned_about(cfg, model, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(inference, "build_test_loader", lambda cfg, name: batches_of(make_samples(20)))
    monkeypatch.setattr(inference, "write_report", lambda *arguments, **settings: ())
    cfg.DATASETS.TEST = ["first_val"]
    metrics = logged_metrics(evaluate_datasets(cfg, model, tmp_path))
    names = ("edges_always_open", "edges_image_dependent", "edges_always_closed", "distinct_routes")
    counts = [metrics[f"first_val/{name}"] for name in names]
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    if isinstance(model, StaticModel):
        assert counts == [2, 0, 2, 1]
        (warning,) = warnings
        assert warning.startswith("first_val: The network is effectively static: of the 2 edges that are open for any ")
    else:
        assert counts[:3] == [0, 4, 0] and counts[3] > 5 and not warnings


class ModelOnGpu(FakeModel):
    """Model whose parameters claim to be on the second GPU."""

    def parameters(self, recurse=True):
        yield SimpleNamespace(device=torch.device("cuda:1"))


def test_timing_synchronizes_the_device_before_and_after_each_call(monkeypatch):
    synchronized = []
    monkeypatch.setattr(torch.cuda, "synchronize", synchronized.append)
    batches = batches_of(make_samples(3))
    evaluator = SemSegEvaluator("fakes", class_names=NAMES, ignore_value=IGNORE)
    inference_on_dataset(ModelOnGpu(), batches, evaluator)
    assert synchronized == 6 * [torch.device("cuda:1")]
    inference_on_dataset(FakeModel(), batches, evaluator)
    assert len(synchronized) == 6


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda samples: [{**sample, "sem_seg": sample["sem_seg"] * 0 + IGNORE} for sample in samples], "no pixel of "),
        (lambda samples: [], "no image of "),
    ],
    ids=["unlabelled", "empty"],
)
def test_faulty_data_sets_do_not_lose_the_results_of_others(cfg, fault, message, tmp_path, monkeypatch):
    load = inference.build_test_loader
    samples = {name: [sample for (sample,) in load(cfg, name)] for name in cfg.DATASETS.TEST}
    samples["first_val"] = fault(samples["first_val"])
    monkeypatch.setattr(inference, "build_test_loader", lambda cfg, name: batches_of(samples[name]))
    with pytest.raises(
        IncompleteEvaluationError, match=f"first_val failed .*second_val.*: {message}first_val"
    ) as error:
        evaluate_datasets(cfg, FakeModel(), tmp_path)
    assert set(error.value.results) == {"second_val"}
    assert set(json.loads((tmp_path / "results.json").read_text())["datasets"]) == {"second_val"}


def test_error_of_another_process_is_raised_in_this_one(cfg, tmp_path, monkeypatch):
    others = iter([None, "sample 3 is invalid"])  # after building the loader, after its part of the dataset

    def all_gather(data):
        return [data, next(others, None)] if data is None or isinstance(data, str) else [data]

    monkeypatch.setattr(inference.comm, "all_gather", all_gather)
    with pytest.raises(IncompleteEvaluationError, match=r"first_val failed .*second_val.*: sample 3 is invalid"):
        evaluate_datasets(cfg, FakeModel(), tmp_path)


def test_data_set_without_labelled_pixels():
    evaluator = SemSegEvaluator("fakes", class_names=NAMES, ignore_value=IGNORE)
    sample = make_samples(1)[0]
    sample["sem_seg"].fill_(IGNORE)
    with pytest.raises(UnlabelledDatasetError, match=r"no pixel of fakes is labelled.*Received: 1 images"):
        inference_on_dataset(FakeModel(), batches_of([sample]), evaluator)


def test_network_without_a_lattice_has_no_route_and_no_budget(cfg, tmp_path):
    evaluate_datasets(cfg, FakeModel(gates=False), tmp_path)
    assert not list(tmp_path.glob("route*")) and (tmp_path / "results.md").exists()
    assert "budget_gflops" not in json.loads((tmp_path / "results.json").read_text())["datasets"]["first_val"]


def test_model_can_be_trained_after_an_evaluation(cfg, tmp_path):
    model = RoutedModel()
    before = [module.training for module in model.modules()]
    evaluate_datasets(cfg, model, tmp_path)
    assert [module.training for module in model.modules()] == before
    assert not torch.is_inference_mode_enabled()
    model.trained(torch.rand(2, 3, 4, 4)).sum().backward()
    assert model.trained[0].weight.grad.isfinite().all()


class LogitsReleased(FakeModel):
    """Model that asserts that its previous logits have been freed."""

    def __init__(self):
        super().__init__()
        self.previous = []

    def forward(self, batched_inputs):
        assert all(logits() is None for logits in self.previous), "the previous logits are still referenced"
        outputs = super().forward(batched_inputs)
        self.previous = [weakref.ref(output["sem_seg"]) for output in outputs]
        return outputs


def test_logits_of_a_batch_are_freed_before_the_next_one():
    evaluator = SemSegEvaluator("fakes", class_names=NAMES, ignore_value=IGNORE)
    inference_on_dataset(LogitsReleased(), batches_of(make_samples(4), size=2), evaluator)


class RecordingWriter:
    """Writer that records its calls."""

    def __init__(self):
        self.calls = []

    def open(self):
        self.calls.append("open")

    def process(self, prediction):
        assert prediction.classes.dtype == torch.uint8
        self.calls.append(prediction.image_id)

    def close(self):
        self.calls.append("close")


def test_writers_receive_all_predictions():
    writers = [RecordingWriter(), RecordingWriter()]
    evaluator = SemSegEvaluator("fakes", class_names=NAMES, ignore_value=IGNORE)
    result = inference_on_dataset(FakeModel(), batches_of(make_samples(3)), evaluator, writers=writers)
    expected = ["open", *(image.image_id for image in result.images), "close"]
    assert [writer.calls for writer in writers] == [expected] * 2


def test_config_selects_several_passes(cfg, tmp_path):
    cfg.TEST.MULTI_SCALE.FLIP = True
    with pytest.raises(ConfigError, match="predict_coarse"):
        evaluate_datasets(cfg, FakeModel(), tmp_path)


def test_config_selects_prediction_files(cfg, tmp_path):
    cfg.TEST.SAVE_PREDICTIONS = ["label_png", "coco_rle"]
    results = evaluate_datasets(cfg, FakeModel(), tmp_path)
    for name, result in results.items():
        folder = tmp_path / "predictions" / name
        names = {f"label_png/{image.image_id}.png" for image in result.images}
        written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert written == names | {"coco_rle.json", "coco_categories.json"}


def test_number_of_parameters_is_reported(cfg, tmp_path):
    evaluate_datasets(cfg, RoutedModel(), tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["parameters"] == 12  # two norms of 3 channels
