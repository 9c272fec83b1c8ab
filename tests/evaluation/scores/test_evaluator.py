"""The evaluator over a fake model: what it sums up, how shards merge, what it refuses."""

import re
from functools import reduce
from statistics import mean

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from dl_lib.evaluation.confusion import count_confusion
from dl_lib.evaluation.evaluator import SemSegEvaluator, Tally
from dl_lib.evaluation.inference import evaluation_mode, inference_on_dataset
from tests.evaluation.fakes import IGNORE, NAMES, NUM_EDGES, FakeModel, make_samples


def make_evaluator():
    return SemSegEvaluator("fakes", class_names=NAMES, ignore_value=IGNORE)


def batches(samples, *, size=1):
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def run(samples, *, size=1):
    return inference_on_dataset(FakeModel(), batches(samples, size=size), make_evaluator())


def without_seconds(result):
    """Everything but the clock, and in an order of its own."""
    images = sorted((i.image_id, i.input_height, i.input_width, i.costs.executed) for i in result.images)
    return result.metrics, result.costs, images


def test_every_figure_is_that_of_its_images():
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
    executed = [output["flops"]["executed_flops"] / 1e3 for output in outputs]
    assert result.costs.executed.average == pytest.approx(mean(executed), rel=1e-12)
    assert (result.costs.executed.maximum, result.costs.executed.minimum) == (max(executed), min(executed))
    assert result.num_images == 7
    assert [(image.input_height, image.input_width) for image in result.images[:2]] == [(32, 64), (64, 64)]
    assert 0 < result.seconds_per_image < 1


@pytest.mark.parametrize("shards", [1, 2, 3, 9])
def test_merged_shards_are_the_whole_even_where_one_is_empty(shards):
    samples = make_samples(7)
    whole = run(samples)
    tallies = []
    for shard in range(shards):
        evaluator = make_evaluator()
        inputs = samples[shard::shards]
        evaluator.process(inputs, [FakeModel().output(sample) for sample in inputs])
        tallies.append(evaluator.tally())
    merged = reduce(Tally.merged, tallies).result(dataset_name="fakes", class_names=NAMES)
    assert without_seconds(merged) == without_seconds(whole)
    assert merged.mean_gates == pytest.approx(whole.mean_gates, rel=1e-12)


def test_batches_change_nothing():
    samples = make_samples(5)
    assert without_seconds(run(samples)) == without_seconds(run(samples, size=2))


def test_reset_forgets_and_inference_resets():
    evaluator = make_evaluator()
    first = inference_on_dataset(FakeModel(), batches(make_samples(2)), evaluator)
    assert evaluator.tally().counts.sum() == first.metrics.pixels
    again = inference_on_dataset(FakeModel(), batches(make_samples(2)), evaluator)
    assert without_seconds(again) == without_seconds(first)
    evaluator.reset()
    assert evaluator.tally().images == () and not evaluator.tally().counts.any()


def _evaluate_shard(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    # Three images to two, and the second process's share is the shorter one.
    torch.save(without_seconds(run(make_samples(3)[rank::2])), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_agree_with_one(tmp_path):
    mp.start_processes(_evaluate_shard, args=(tmp_path,), nprocs=2, start_method="fork")
    expected = without_seconds(run(make_samples(3)))
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=False) == expected


def test_every_module_gets_its_own_mode_back_even_after_an_error():
    model = FakeModel()
    before = {name: module.training for name, module in model.named_modules()}
    assert before["trained.0"] and not before["frozen"]
    with pytest.raises(RuntimeError), evaluation_mode(model):
        assert not any(module.training for module in model.modules())
        raise RuntimeError
    assert {name: module.training for name, module in model.named_modules()} == before


def test_networks_without_gates_have_none():
    result = inference_on_dataset(FakeModel(gates=False), batches(make_samples(2)), make_evaluator())
    assert result.mean_gates is None


def test_an_unknown_label_names_image_and_value():
    samples = make_samples(2)
    output = FakeModel().output(samples[1])
    samples[1]["sem_seg"][0, 0] = 9
    with pytest.raises(ValueError, match=r"^image 'image_1' of 'fakes': .*Received: label with values 9$"):
        make_evaluator().process(samples[1:], [output])


def test_an_output_of_another_size_names_the_image():
    (sample,) = make_samples(1)
    output = FakeModel().output(sample)
    output["sem_seg"] = output["sem_seg"][:, ::2]
    with pytest.raises(ValueError, match=r"^image 'image_0' of 'fakes': .*prediction=\(5, 11\), label=\(9, 11\)$"):
        make_evaluator().process([sample], [output])


def test_the_number_of_classes_has_to_fit():
    with pytest.raises(ValueError, match=r"has 4 classes.*Received: logits.shape=\(6, 9, 11\)$"):
        inference_on_dataset(FakeModel(num_classes=6), batches(make_samples(1)), make_evaluator())


def test_data_without_labels_or_outputs_cannot_be_scored():
    (sample,) = make_samples(1)
    output = FakeModel().output(sample)
    del sample["sem_seg"]
    with pytest.raises(KeyError, match="image 'image_0' of 'fakes' has no label"):
        make_evaluator().process([sample], [output])
    with pytest.raises(ValueError, match=re.escape("Received: len(inputs)=1, len(outputs)=0")):
        make_evaluator().process([sample], [])
    with pytest.raises(ValueError, match=r"no image was evaluated.*dataset_name='fakes'"):
        make_evaluator().evaluate()
