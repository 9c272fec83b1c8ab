"""Class-wise resizing of coarse logits: equal to resizing all classes at once, with much less memory."""

import pytest
import torch
from torch.nn.functional import interpolate

from dl_lib.evaluation.runner.peak_memory import LiveMemory
from dl_lib.modeling.meta_arch.coarse import CoarseLogits, requested_size
from tests.helpers.published import batch_of, build_case


def upsample(logits):
    return interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)


def random_logits(classes, rows, columns, *, size, memory_format=torch.contiguous_format):
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(1, classes, rows, columns, generator=generator, dtype=torch.float64)
    return CoarseLogits(values.to(memory_format=memory_format)[0], size, stride=4, upsample=upsample)


def resized_at_once(logits, size):
    """Resize all classes together: ×4, without padding, to the requested size."""
    image = upsample(logits.values[None])[..., : logits.size[0], : logits.size[1]]
    return interpolate(image, size=size, mode="bilinear", align_corners=False)[0] if size != logits.size else image[0]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(50, 70), (100, 140), (33, 71), (1, 1)])
def test_class_wise_equals_all_classes_at_once(size, memory_format):
    logits = random_logits(7, 16, 24, size=(50, 70), memory_format=memory_format)
    total = logits.new_zeros(size)
    assert total.dtype == torch.float64 and total.shape == (7, *size)
    logits.add_to(total)
    torch.testing.assert_close(total, resized_at_once(logits, size), rtol=1e-12, atol=1e-12)
    logits.add_to(total)
    torch.testing.assert_close(total, 2 * resized_at_once(logits, size), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [(50, 70), (33, 71)])
def test_flipped_logits_are_flipped_back(size):
    logits = random_logits(3, 16, 24, size=(50, 70))
    total = logits.new_zeros(size)
    logits.add_to(total, flipped=True)
    torch.testing.assert_close(total, resized_at_once(logits, size).flip(-1), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [(256, 512), (300, 600)])
def test_peak_memory_is_the_result_and_at_most_two_classes(size):
    """Resizing holds one class at the image size and, if another size is requested, also at that size."""
    logits = random_logits(19, 64, 128, size=(256, 512))
    with LiveMemory() as memory:
        total = logits.new_zeros(size)
        logits.add_to(total)
    one_class = size[0] * size[1] * total.element_size()
    assert 19 * one_class < memory.peak_bytes < 21.5 * one_class
    with LiveMemory() as at_once:
        total += resized_at_once(logits, size)
    assert at_once.peak_bytes + total.nbytes >= 2 * 19 * one_class  # the measurement detects a second copy


def test_forward_pass_holds_one_copy_of_the_result():
    """The peak covers a whole forward pass; resizing all classes at once takes 2.5 times the result or more."""
    model = build_case("tiny__mix3", dtype=torch.float32).eval()
    (sample,) = batch_of(0, dtype=torch.float32)
    with torch.inference_mode():
        model([sample])  # measures the cost table of this size
        with LiveMemory() as memory:
            (output,) = model([sample | {"height": 512, "width": 1024}])
    assert output["sem_seg"].shape == (19, 512, 1024)
    result_bytes = output["sem_seg"].nbytes
    assert result_bytes < memory.peak_bytes < 1.5 * result_bytes


def test_requested_size_defaults_to_the_image_size():
    image = torch.zeros(3, 5, 7)
    assert requested_size({"image": image}) == (5, 7)
    assert requested_size({"image": image, "height": 2}) == (2, 7)
    assert requested_size({"image": image, "height": 2, "width": 3}) == (2, 3)


def test_gradients_reach_the_coarse_logits():
    logits = random_logits(2, 4, 4, size=(16, 16))
    values = logits.values.clone().requires_grad_()
    total = logits.new_zeros((16, 16))
    CoarseLogits(values, (16, 16), stride=4, upsample=upsample).add_to(total)
    total.sum().backward()
    assert values.grad.sum() == pytest.approx(2 * 16 * 16)
