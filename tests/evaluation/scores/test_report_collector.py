"""Report data of a fake model: direct computation, order and number of images, processes, unlabelled data."""

import io
from dataclasses import fields
from functools import reduce

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from PIL import Image

from dl_lib.evaluation.runner.run import inference_on_dataset
from dl_lib.evaluation.scores.calibration import CalibrationCounts, confidence_of, count_calibration
from dl_lib.evaluation.scores.confusion import count_confusion
from dl_lib.evaluation.scores.evaluator import EvaluationState, SemSegEvaluator
from dl_lib.evaluation.scores.image_encoding import decode_class_indices
from dl_lib.evaluation.scores.report_collector import ReportCollector
from tests.helpers.evaluation import IGNORE, NAMES, NUM_CLASSES, FakeModel, batches_of, make_samples

COLORS = [(index, 0, 255) for index in range(NUM_CLASSES)]


def make_evaluator(*, thumbnails=range(1000), channel_order="BGR", labelled=True):
    collector = ReportCollector(
        thumbnail_indices=thumbnails, class_colors=COLORS, ignore_value=IGNORE, channel_order=channel_order
    )
    return SemSegEvaluator("fakes", class_names=NAMES, ignore_value=IGNORE, labelled=labelled, report=collector)


class Model(FakeModel):
    """Fake model whose number of errors and confidence depend on the image; needs no labels."""

    def __init__(self, labels):
        super().__init__()
        self.labels = labels

    def output(self, sample):
        label = self.labels[sample["index"]]
        output = super().output({**sample, "sem_seg": label})
        generator = torch.Generator().manual_seed(sample["index"])
        noise = torch.randn(output["sem_seg"].shape, generator=generator)
        return {**output, "sem_seg": output["sem_seg"] + (0.1 + sample["index"] % 7 / 7) * noise}


def model_of(samples):
    return Model({sample["index"]: sample["sem_seg"] for sample in samples})


def report_of(samples, *, model=None, **settings):
    evaluator = make_evaluator(**settings)
    return inference_on_dataset(model or model_of(samples), batches_of(samples), evaluator).report_data


def as_values(data):
    """Return everything in a report as comparable values, with images in a fixed order."""
    order = np.argsort(data.image_ids)
    samples = [
        [(one.image_id, one.image, one.prediction, one.label) for one in group]
        for group in (data.worst, data.most_expensive)
    ]
    calibration = data.calibration
    sums = calibration and [getattr(calibration, field.name).tolist() for field in fields(calibration)]
    counts = None if data.class_counts is None else data.class_counts[order].tolist()
    return sorted(data.image_ids), counts, sorted(data.thumbnails.items()), samples, sums


def test_counts_equal_direct_computation():
    samples = make_samples(5)
    samples[1]["sem_seg"][:] = IGNORE
    model, data = model_of(samples), report_of(samples)
    sums = 0
    for position, sample in enumerate(samples):
        logits, label = model.output(sample)["sem_seg"], sample["sem_seg"]
        matrix = count_confusion(logits.argmax(0), label=label, num_classes=NUM_CLASSES, ignore_value=IGNORE)
        expected = torch.stack([matrix.diag(), matrix.sum(dim=0), matrix.sum(dim=1)])
        assert data.class_counts[position].tolist() == expected.tolist()
        grid = label[::4, ::4]
        confidence = torch.softmax(logits, dim=0).amax(dim=0)[::4, ::4][grid != IGNORE]
        sums += count_calibration(confidence, is_correct=(logits.argmax(0)[::4, ::4] == grid)[grid != IGNORE])
    assert data.image_ids == tuple(f"image_{index}" for index in range(5))
    expected = CalibrationCounts.from_sums(sums)
    for field in fields(expected):
        np.testing.assert_allclose(getattr(data.calibration, field.name), getattr(expected, field.name), rtol=1e-6)


def test_images_are_ranked_by_score_and_cost():
    samples = make_samples(25)
    samples[3]["sem_seg"][:] = IGNORE  # has no score
    result = inference_on_dataset(model_of(samples), batches_of(samples), make_evaluator())
    scored = [image for image in result.images if image.scores is not None]
    worst = sorted(scored, key=lambda image: (image.scores.mean_iou, image.image_id))[:10]
    most_expensive = sorted(result.images, key=lambda image: (-image.costs.real, image.image_id))[:10]
    data = result.report_data
    assert [sample.image_id for sample in data.worst] == [image.image_id for image in worst]
    assert [sample.image_id for sample in data.most_expensive] == [image.image_id for image in most_expensive]
    assert {sample.image_id for sample in data.worst} != {sample.image_id for sample in data.most_expensive}


def test_equal_images_are_ranked_by_name():
    samples = [{**make_samples(1)[0], "index": index, "image_id": f"{99 - index}"} for index in range(12)]
    data = report_of(samples, model=FakeModel())
    expected = [str(number) for number in range(88, 98)]
    assert [one.image_id for one in data.worst] == [one.image_id for one in data.most_expensive] == expected


@pytest.mark.parametrize("channel_order", ["BGR", "RGB"])
def test_samples_and_thumbnails_show_the_image(channel_order):
    """An input of 512 × 1024 pixels for a label of half the size: samples have 192 × 384 pixels."""
    label = torch.zeros(256, 512, dtype=torch.int64)
    label[:, :256], label[128:] = 1, 2
    label[:32] = IGNORE
    rgb = torch.tensor([200, 100, 20], dtype=torch.uint8).view(3, 1, 1).expand(3, 512, 1024).clone()
    image = rgb if channel_order == "RGB" else rgb.flip(0)
    sample = {"image": image, "sem_seg": label, "index": 0, "image_id": "a", "file_name": "a.png"}
    data = report_of([{**sample, "height": 256, "width": 512}], model=FakeModel(), channel_order=channel_order)
    (worst,) = data.worst
    for jpeg, size in ((data.thumbnails["a"], (128, 64)), (worst.image, (384, 192))):
        with Image.open(io.BytesIO(jpeg)) as decoded:
            assert decoded.size == size
            np.testing.assert_allclose(np.asarray(decoded)[5, 5], (200, 100, 20), atol=3)
    shown = decode_class_indices(worst.label)
    assert shown.shape == decode_class_indices(worst.prediction).shape == (192, 384)
    assert (shown[0, 0], shown[50, 0], shown[50, 383], shown[150, 0]) == (255, 1, 0, 2)
    prediction = FakeModel().output(sample)["sem_seg"].argmax(0)[np.arange(192) * 4 // 3][:, np.arange(384) * 4 // 3]
    np.testing.assert_array_equal(decode_class_indices(worst.prediction), prediction)


def test_thumbnails_are_those_of_the_given_indices():
    samples = make_samples(8)
    del samples[4]  # skipped
    assert [*report_of(samples, thumbnails=[0, 3, 4, 7]).thumbnails] == ["image_0", "image_3", "image_7"]


def test_result_depends_neither_on_order_nor_processes():
    samples = make_samples(30)
    expected = as_values(report_of(samples))
    assert as_values(report_of(samples[::-1])) == expected
    states = []
    for part in (samples[:1], samples[1:20], [], samples[20:]):
        evaluator = make_evaluator()
        inference_on_dataset(model_of(samples), batches_of(part), evaluator) if part else None
        states.append(evaluator.state())
    merged = reduce(EvaluationState.merge, states)
    assert as_values(merged.report.compute(merged.images)) == expected
    assert merged.report.compute(merged.images).image_ids == tuple(sample["image_id"] for sample in samples)


def _evaluate_shard(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    samples = make_samples(23)
    shard = samples[:12] if rank == 0 else samples[12:]
    torch.save(as_values(report_of(shard, model=model_of(samples))), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    mp.start_processes(_evaluate_shard, args=(tmp_path,), nprocs=2, start_method="fork")
    for rank in range(2):
        assert torch.load(tmp_path / f"{rank}.pt", weights_only=False) == as_values(report_of(make_samples(23)))


def test_memory_of_images_is_bounded():
    evaluator = make_evaluator(thumbnails=())
    samples = make_samples(60)
    inference_on_dataset(model_of(samples), batches_of(samples), evaluator)
    assert 10 <= len(evaluator.state().report.samples) <= 20 and not evaluator.state().report.thumbnails


def test_without_ground_truth_there_are_only_images():
    samples = make_samples(3)
    model = model_of(samples)
    for sample in samples:
        del sample["sem_seg"]
    data = report_of(samples, model=model, labelled=False)
    assert (data.class_counts, data.calibration, data.worst) == (None, None, ())
    assert len(data.thumbnails) == 3 and [sample.label for sample in data.most_expensive] == [None] * 3


def test_evaluators_are_reset_and_collect_nothing_by_default():
    samples, evaluator = make_samples(3), make_evaluator()
    first, again = (inference_on_dataset(model_of(samples), batches_of(samples), evaluator) for _ in range(2))
    assert as_values(first.report_data) == as_values(again.report_data)
    plain = SemSegEvaluator("fakes", class_names=NAMES, ignore_value=IGNORE)
    assert inference_on_dataset(model_of(samples), batches_of(samples), plain).report_data is None
    assert confidence_of(torch.zeros(NUM_CLASSES, 1, 1)).item() == 1 / NUM_CLASSES
