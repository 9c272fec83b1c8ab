"""Pixel cross-entropy against torch, and hard example mining against a loop over pixels."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from dl_lib.modeling.losses.cross_entropy import HardExamples, PixelCrossEntropy

CLASSES, IGNORE = 4, 255


def random_batch(seed, *, images=2, ignored=0.3):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(images, CLASSES, 5, 6, generator=generator, dtype=torch.float64)
    target = torch.randint(0, CLASSES, (images, 5, 6), generator=generator)
    target[torch.rand(target.shape, generator=generator) < ignored] = IGNORE
    return logits, target


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 999),
    weights=st.sampled_from([(), (1.0, 2.0, 0.5, 0.0), (0.3, 0.3, 0.3, 0.3)]),
    smoothing=st.sampled_from([0.0, 0.1]),
)
def test_equals_torch_cross_entropy(seed, weights, smoothing):
    logits, target = random_batch(seed)
    expected = cross_entropy(
        logits,
        target,
        weight=torch.tensor(weights, dtype=torch.float64) if weights else None,
        label_smoothing=smoothing,
        ignore_index=IGNORE,
    )
    loss = PixelCrossEntropy(IGNORE, class_weights=weights, label_smoothing=smoothing)(logits, target)
    torch.testing.assert_close(loss, expected)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 999), threshold=st.sampled_from([0.0, 0.2, 0.7, 1.0]), min_ratio=st.sampled_from([0, 0.25, 1])
)
def test_hard_examples_against_a_loop(seed, threshold, min_ratio):
    logits, target = random_batch(seed)
    losses = []
    for image, label in zip(logits, target, strict=True):
        probability = image.softmax(dim=0)
        pixels = [(probability[c, y, x], y, x) for y in range(5) for x in range(6) if (c := label[y, x]) != IGNORE]
        pixels.sort(key=lambda pixel: pixel[0])
        kept = max(round(min_ratio * len(pixels)), sum(p <= threshold for p, _, _ in pixels))
        losses += [-p.log() for p, _, _ in pixels[:kept]]
    loss = PixelCrossEntropy(IGNORE, hard_examples=HardExamples(threshold, min_ratio))(logits, target)
    torch.testing.assert_close(loss, torch.stack(losses).mean() if losses else torch.zeros((), dtype=torch.float64))


def test_easy_pixels_have_no_gradient():
    logits, target = random_batch(1, ignored=0)
    logits.requires_grad_()
    PixelCrossEntropy(IGNORE, hard_examples=HardExamples(0.3, 0.1))(logits, target).backward()
    probability = logits.softmax(dim=1).gather(1, target[:, None])[:, 0]
    taught = logits.grad.abs().sum(dim=1) > 0
    assert torch.equal(taught, probability <= 0.3)


@pytest.mark.parametrize("hard", [None, HardExamples(0.7, 0.1)])
def test_unlabelled_batch_has_zero_loss_and_gradient(hard):
    logits, target = random_batch(0)
    logits.requires_grad_()
    loss = PixelCrossEntropy(IGNORE, hard_examples=hard)(logits, torch.full_like(target, IGNORE))
    loss.backward()
    assert loss.item() == 0
    assert not logits.grad.any()
