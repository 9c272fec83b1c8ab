"""Confidence and expected calibration error against closed forms and a brute-force reference."""

import numpy as np
import pytest
import torch

from dl_lib.evaluation.scores.calibration import NUM_BINS, CalibrationCounts, confidence_of, count_calibration


def counts_of(confidence, is_correct):
    sums = count_calibration(torch.tensor(confidence, dtype=torch.float32), is_correct=torch.tensor(is_correct))
    return CalibrationCounts.from_sums(sums)


def ece_by_loops(confidence, is_correct):
    """Return the error as in eq. 3: bin by bin, with intervals that are closed on the right."""
    total = 0.0
    for number in range(NUM_BINS):
        members = [
            (value, correct)
            for value, correct in zip(confidence, is_correct, strict=True)
            if number / NUM_BINS < value <= (number + 1) / NUM_BINS
        ]
        if members:
            accuracy = sum(correct for _, correct in members) / len(members)
            mean_confidence = sum(value for value, _ in members) / len(members)
            total += len(members) / len(confidence) * abs(accuracy - mean_confidence)
    return total


def test_ece_in_closed_form():
    """Half of the pixels 0.3 too confident, a quarter 0.2 too cautious, a quarter calibrated: 0.15 + 0.05."""
    pixels, correct, confidence = np.zeros(NUM_BINS, np.int64), np.zeros(NUM_BINS, np.int64), np.zeros(NUM_BINS)
    pixels[[14, 10, 7]] = 200, 100, 100
    correct[[14, 10, 7]] = 130, 90, 50
    confidence[[14, 10, 7]] = 0.95 * 200, 0.7 * 100, 0.5 * 100
    assert CalibrationCounts(pixels, correct, confidence).ece == pytest.approx(0.5 * 0.3 + 0.25 * 0.2, rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_ece_equals_the_brute_force_reference(seed):
    rng = np.random.default_rng(seed)
    confidence = rng.beta(4, 1, 500).astype(np.float32).astype(float).tolist()
    is_correct = (rng.random(500) < 0.8).tolist()
    assert counts_of(confidence, is_correct).ece == pytest.approx(ece_by_loops(confidence, is_correct), abs=1e-7)


def test_bins_are_closed_on_the_right():
    """1/3 and 2/3 are not representable in float32: the values just below, the nearest, and the one just above."""
    for edge in (5, 10, NUM_BINS):
        value = np.float32(edge / NUM_BINS)
        below = np.nextafter(value, np.float32(0))
        assert counts_of([below], [True]).pixels.tolist().index(1) == edge - 1
    assert counts_of([0.0], [True]).pixels[0] == counts_of([1.0], [True]).pixels[-1] == 1
    assert counts_of([np.float32(1) / 3 + 1e-6], [True]).pixels[5] == 1


def test_sums_do_not_depend_on_the_order():
    generator = torch.Generator().manual_seed(0)
    confidence, is_correct = torch.rand(10_000, generator=generator), torch.rand(10_000, generator=generator) < 0.5
    whole = count_calibration(confidence, is_correct=is_correct)
    order = torch.randperm(10_000, generator=generator)
    parts = [count_calibration(confidence[part], is_correct=is_correct[part]) for part in order.split(999)]
    assert torch.equal(torch.stack(parts).sum(dim=0), whole)
    counts = CalibrationCounts.from_sums(whole)
    assert counts.confidence.sum() == pytest.approx(confidence.double().sum().item(), rel=1e-7)
    assert (counts.pixels.sum(), counts.correct.sum()) == (10_000, is_correct.sum())


def test_without_pixels_there_is_no_calibration():
    assert CalibrationCounts.from_sums(torch.zeros(3, NUM_BINS, dtype=torch.int64)) is None


def test_confidence_is_the_largest_probability():
    logits = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(0))
    expected = torch.softmax(logits.double(), dim=0).max(dim=0).values
    torch.testing.assert_close(confidence_of(logits).double(), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(confidence_of(torch.tensor([[[0.0]], [[3.0]]]).log()), torch.ones(1, 1))
    large = torch.tensor([3e4, -3e4]).view(2, 1, 1).bfloat16()
    assert confidence_of(large).item() == 1 and confidence_of(large).dtype == torch.float32
    assert confidence_of(torch.full((2, 1, 1), torch.nan)).item() == 0
