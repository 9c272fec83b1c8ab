"""Overlap losses against their definitions: sets for Lovász-softmax, sums for dice."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dl_lib.modeling.losses.overlap import dice_loss, lovasz_softmax_loss

IGNORE = 255
LOSSES = [dice_loss, lovasz_softmax_loss]


def random_batch(seed, *, classes=3):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, classes, 3, 4, generator=generator, dtype=torch.float64)
    target = torch.randint(0, classes, (2, 3, 4), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.2] = IGNORE
    return logits, target


def mean_over_present_classes(logits, target, of_class):
    """Average a function of class probabilities and truth over classes and images, as both losses do."""
    images = []
    for image, label in zip(logits, target, strict=True):
        labelled = (label != IGNORE).flatten().nonzero().flatten().tolist()
        probability, ids = image.softmax(dim=0).flatten(1), label.flatten()
        present = sorted({ids[i].item() for i in labelled})
        values = [
            of_class([probability[c, i].item() for i in labelled], [ids[i].item() == c for i in labelled])
            for c in present
        ]
        images.append(sum(values) / len(values) if values else 0.0)
    return sum(images) / len(images)


def dice(p, truth):
    return 1 - 2 * sum(a for a, t in zip(p, truth, strict=True) if t) / (sum(p) + sum(truth))


def lovasz(p, truth):
    """Integrate 1 - IoU over error thresholds, the definition of the Lovász extension."""
    errors = [1 - a if t else a for a, t in zip(p, truth, strict=True)]
    levels = sorted({0.0, *errors})
    total = 0.0
    for low, high in itertools.pairwise(levels):
        wrong = {i for i, error in enumerate(errors) if error >= high}
        true = {i for i, t in enumerate(truth) if t}
        total += (high - low) * (1 - len(true - wrong) / len(true | wrong))
    return total


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
@pytest.mark.parametrize(("loss", "of_class"), [(dice_loss, dice), (lovasz_softmax_loss, lovasz)])
def test_definition(loss, of_class, seed):
    logits, target = random_batch(seed)
    expected = mean_over_present_classes(logits, target, of_class)
    assert loss(logits, target, ignore_value=IGNORE).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("loss", LOSSES)
def test_confident_predictions_give_zero_or_one(loss):
    _, target = random_batch(3)
    certain = (
        100 * torch.nn.functional.one_hot(target.where(target != IGNORE, 0), num_classes=3).movedim(-1, 1).double()
    )
    assert loss(certain, target, ignore_value=IGNORE).item() == pytest.approx(0)
    assert loss(certain.roll(1, dims=1), target, ignore_value=IGNORE).item() == pytest.approx(1)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients(loss):
    logits, target = random_batch(4)
    assert torch.autograd.gradcheck(lambda x: loss(x, target, ignore_value=IGNORE), logits.requires_grad_())


@pytest.mark.parametrize("loss", LOSSES)
def test_images_without_labels_count_as_zero(loss):
    logits, target = random_batch(5)
    target[1] = IGNORE
    alone = loss(logits[:1], target[:1], ignore_value=IGNORE)
    torch.testing.assert_close(loss(logits, target, ignore_value=IGNORE), alone / 2)
    logits.requires_grad_()
    loss(logits, torch.full_like(target, IGNORE), ignore_value=IGNORE).backward()
    assert not logits.grad.any()
