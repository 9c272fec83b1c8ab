"""SemSegEvaluator on a fake model: accumulation, merging across processes, invalid input."""

from dataclasses import replace
from functools import reduce
from statistics import mean

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from dl_lib.data.errors import InvalidSampleError, MissingDataError
from dl_lib.data.sample_loader import SkippedSample
from dl_lib.evaluation.runner.run import evaluation_mode, inference_on_dataset
from dl_lib.evaluation.scores.boundary import count_boundary
from dl_lib.evaluation.scores.confusion import count_confusion
from dl_lib.evaluation.scores.evaluator import EvaluationState, SemSegEvaluator
from dl_lib.evaluation.scores.image_properties import image_properties, property_correlations
from dl_lib.evaluation.scores.routes import MIN_IMAGES, route_statistics
from tests.helpers.evaluation import IGNORE, NAMES, NUM_EDGES, FakeModel, batches_of, make_samples, predictions_of


def make_evaluator():
    return SemSegEvaluator("fakes", class_names=NAMES, ignore_value=IGNORE)


def process_all(evaluator, samples):
    for sample, prediction in zip(samples, predictions_of(samples), strict=True):
        evaluator.process(sample, prediction)


def run(samples, *, size=1):
    return inference_on_dataset(FakeModel(), batches_of(samples, size=size), make_evaluator())


def without_seconds(result):
    """Return everything but the timing, in a fixed order."""
    images = sorted(
        (i.image_id, i.input_sizes, i.costs.executed, i.scores, i.properties, number, gates)
        for i, number, gates in zip(result.images, result.routes.numbers, result.gates.tolist(), strict=True)
    )
    return result.metrics, result.costs, result.routes.routes, images


def test_result_equals_direct_computation():
    samples = make_samples(7)
    result = run(samples)
    outputs = [FakeModel().output(sample) for sample in samples]
    counts = sum(
        count_confusion(output["sem_seg"].argmax(0), label=sample["sem_seg"], num_classes=4, ignore_value=IGNORE)
        for sample, output in zip(samples, outputs, strict=True)
    )
    hits, true = counts.diag()[:3], counts.sum(1)[:3]
    assert result.metrics.pixel_accuracy == float(hits.sum()) / float(true.sum())
    assert [score.iou for score in result.metrics.classes] == [
        *(hits / (true + counts.sum(0)[:3] - hits).double()).tolist(),
        None,
    ]
    assert result.metrics.absent == ("never",)
    gates = torch.stack([output["gates"] for output in outputs]).double()
    assert result.mean_gates == pytest.approx(gates.mean(0).tolist(), rel=1e-12)
    assert len(result.mean_gates) == NUM_EDGES
    executed = [output["flops"]["executed_flops"] * 1e6 for output in outputs]
    assert result.costs.average.executed == pytest.approx(mean(executed), rel=1e-12)
    assert (result.costs.maximum.executed, result.costs.minimum.executed) == (max(executed), min(executed))
    assert result.num_images == 7
    assert [image.input_sizes for image in result.images[:2]] == [((32, 64),), ((64, 64),)]
    assert 0 < result.seconds_per_image < 1


@pytest.mark.parametrize("shards", [1, 2, 3, 9])
def test_merged_shards_equal_the_whole_even_with_empty_shards(shards):
    samples = make_samples(7)
    whole = run(samples)
    states = []
    for shard in range(shards):
        evaluator = make_evaluator()
        process_all(evaluator, samples[shard::shards])
        states.append(evaluator.state())
    merged = reduce(EvaluationState.merge, states).compute(
        dataset_name="fakes", class_names=NAMES, absent_rule="exclude"
    )
    assert without_seconds(merged) == without_seconds(whole)
    assert merged.mean_gates == pytest.approx(whole.mean_gates, rel=1e-12)


def test_batch_size_does_not_matter():
    samples = make_samples(5)
    assert without_seconds(run(samples)) == without_seconds(run(samples, size=2))


def test_inference_resets_the_evaluator():
    evaluator = make_evaluator()
    first = inference_on_dataset(FakeModel(), batches_of(make_samples(2)), evaluator)
    assert evaluator.state().counts.sum() == first.metrics.pixels
    again = inference_on_dataset(FakeModel(), batches_of(make_samples(2)), evaluator)
    assert without_seconds(again) == without_seconds(first)
    evaluator.reset()
    assert evaluator.state().images == () and not evaluator.state().counts.any()


def _evaluate_shard(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    # Three images on two processes: the second has fewer.
    torch.save(without_seconds(run(make_samples(3)[rank::2])), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    mp.start_processes(_evaluate_shard, args=(tmp_path,), nprocs=2, start_method="fork")
    expected = without_seconds(run(make_samples(3)))
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=False) == expected


def test_evaluation_mode_restores_every_module_after_an_error():
    model = FakeModel()
    before = {name: module.training for name, module in model.named_modules()}
    assert before["trained.0"] and not before["frozen"]
    with pytest.raises(RuntimeError), evaluation_mode(model):
        assert not any(module.training for module in model.modules())
        raise RuntimeError
    assert {name: module.training for name, module in model.named_modules()} == before


def test_network_without_gates_has_no_routes():
    result = inference_on_dataset(FakeModel(gates=False), batches_of(make_samples(25)), make_evaluator())
    assert (result.gates, result.mean_gates, result.routes, result.reported_routes) == (None,) * 4
    assert result.cost_correlations is None and result.images[0].properties is None


def test_routes_and_correlations_of_the_images():
    samples = make_samples(MIN_IMAGES)
    outputs = [FakeModel().output(sample) for sample in samples]
    result = run(samples)
    gates, real = (torch.stack([output["gates"] for output in outputs]), [i.costs.real for i in result.images])
    assert result.reported_routes == route_statistics(gates.numpy(), real_madds=real)
    assert len(result.reported_routes.routes) > 5
    properties = [
        image_properties(sample["sem_seg"].numpy(), class_names=NAMES, ignore_value=IGNORE) for sample in samples
    ]
    assert [image.properties for image in result.images] == properties
    per_pixel = [cost / sample["image"][0].numel() for cost, sample in zip(real, samples, strict=True)]
    assert result.cost_correlations == property_correlations(per_pixel, properties, min_images=MIN_IMAGES)
    assert [one.images for one in result.cost_correlations.values()] == [MIN_IMAGES] * 4
    fewer = run(samples[1:])
    assert fewer.routes is not None and (fewer.reported_routes, fewer.cost_correlations) == (None, None)


def test_invalid_label_error_names_image_and_value():
    samples = make_samples(2)
    (prediction,) = predictions_of(samples[1:])
    samples[1]["sem_seg"][0, 0] = 9
    with pytest.raises(ValueError, match=r"^image 'image_1' of 'fakes': .*Received: label with values 9$"):
        make_evaluator().process(samples[1], prediction)


def test_size_mismatch_error_names_the_image():
    (sample,) = make_samples(1)
    (prediction,) = predictions_of([sample])
    smaller = replace(prediction, classes=prediction.classes[::2])
    with pytest.raises(ValueError, match=r"^image 'image_0' of 'fakes': .*prediction=\(5, 11\), label=\(9, 11\)$"):
        make_evaluator().process(sample, smaller)


def test_missing_label_is_an_error():
    (sample,) = make_samples(1)
    (prediction,) = predictions_of([sample])
    del sample["sem_seg"]
    with pytest.raises(InvalidSampleError, match="image 'image_0' of 'fakes' has no label"):
        make_evaluator().process(sample, prediction)


def test_no_image_is_an_error():
    evaluator = make_evaluator()
    evaluator.set_skipped([SkippedSample(0, "broken.png is damaged")])
    with pytest.raises(MissingDataError, match=r"no image of fakes was evaluated.*Received: 1 skipped samples"):
        evaluator.evaluate()


def test_without_ground_truth_only_costs_are_computed():
    samples = make_samples(3)
    labelled = run(samples)
    model = FixedModel([FakeModel().output(sample) for sample in samples])
    for sample in samples:
        del sample["sem_seg"]
    evaluator = SemSegEvaluator("fakes", class_names=NAMES, ignore_value=IGNORE, labelled=False, boundary_iou=True)
    result = inference_on_dataset(model, batches_of(samples), evaluator)
    assert (result.metrics, result.confusion) == (None, None)
    assert result.costs == labelled.costs and result.mean_gates == labelled.mean_gates
    assert [(image.scores, image.properties) for image in result.images] == [(None, None)] * 3


class FixedModel(nn.Module):
    """Model that returns prepared outputs in turn."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs = list(outputs)

    def forward(self, batched_inputs):
        return [self.outputs.pop(0) for _ in batched_inputs]


def test_scores_per_image():
    samples = make_samples(4)
    samples[2]["sem_seg"][:] = IGNORE
    result = run(samples)
    for index in (0, 1, 3):
        alone = run(samples[index : index + 1])
        assert result.images[index].scores.mean_iou == alone.metrics.mean_iou
        assert result.images[index].scores.pixel_accuracy == alone.metrics.pixel_accuracy
    assert result.images[2].scores is None
    assert [image.file_name for image in result.images] == [f"images/image_{index}.png" for index in range(4)]


def test_absent_rule_and_boundary_iou_are_applied():
    samples = make_samples(4)
    kinds = {
        rule: inference_on_dataset(
            FakeModel(),
            batches_of(samples),
            SemSegEvaluator("fakes", class_names=NAMES, ignore_value=IGNORE, absent_rule=rule, boundary_iou=True),
        ).metrics
        for rule in ("exclude", "zero_if_predicted")
    }
    excluded, as_zero = kinds["exclude"], kinds["zero_if_predicted"]
    assert as_zero.mean_iou == pytest.approx(excluded.mean_iou * 3 / 4, rel=1e-12)
    assert as_zero.mean_boundary_iou == pytest.approx(excluded.mean_boundary_iou * 3 / 4, rel=1e-12)
    boundary = sum(
        count_boundary(prediction.classes, label=sample["sem_seg"], num_classes=4, ignore_value=IGNORE)
        for sample, prediction in zip(samples, predictions_of(samples), strict=True)
    )
    expected = (boundary[0] / boundary[1].double())[:3].tolist()
    assert [score.boundary_iou for score in excluded.classes] == [*expected, None]


def test_skipped_samples_of_all_processes_are_recorded():
    whole = run_skipping([3, 7])
    assert [sample.index for sample in whole.skipped] == [3, 7]
    merged = reduce(EvaluationState.merge, [state_skipping([index]) for index in (3, 7)])
    assert merged.skipped == whole.skipped
    assert merged.images != ()


def skipping(indices):
    batches = batches_of(make_samples(2))
    batches.skipped = [SkippedSample(index, f"sample {index} is damaged") for index in indices]
    return batches


def run_skipping(indices):
    return inference_on_dataset(FakeModel(), skipping(indices), make_evaluator())


def state_skipping(indices):
    evaluator = make_evaluator()
    inference_on_dataset(FakeModel(), skipping(indices), evaluator)
    return evaluator.state()


def test_reset_clears_skipped_samples_and_boundary_counts():
    evaluator = SemSegEvaluator("fakes", class_names=NAMES, ignore_value=IGNORE, boundary_iou=True)
    inference_on_dataset(FakeModel(), skipping([1]), evaluator)
    assert evaluator.state().boundary.any() and evaluator.state().skipped
    evaluator.reset()
    assert not evaluator.state().boundary.any() and not evaluator.state().skipped
