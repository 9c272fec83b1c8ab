"""Learning rate range test on losses with known steepest decrease and divergence."""

import math

import pytest

from dl_lib.solver.lr_finder import LRFinderResult, exponential_rates, run_lr_finder

RATES = exponential_rates(1e-6, 10.0, count=141)  # 20 per decade


def decrease_at(rate, *, width=0.3):
    """Return a loss that decreases from 2 to 1, most steeply at this rate."""
    return lambda r: 1.5 - 0.5 * math.tanh(math.log10(r / rate) / width)


@pytest.mark.parametrize("rate", [1e-4, 1e-3, 0.1])
@pytest.mark.parametrize("smoothing", [0.0, 0.9])
def test_suggestion_is_the_steepest_decrease_for_any_smoothing(rate, smoothing):
    result = run_lr_finder(decrease_at(rate), rates=RATES, smoothing=smoothing)
    assert not result.diverged
    assert result.rates == tuple(RATES)
    assert result.suggestion == pytest.approx(rate, rel=0.06)  # half the spacing of the rates


def test_decrease_after_the_minimum_of_the_average_is_ignored():
    def loss(rate):
        return decrease_at(1e-3)(rate) if rate < 0.1 else 3.0 if rate < 1 else 2.0 - math.log10(rate)

    result = run_lr_finder(loss, rates=RATES, smoothing=0.5)
    assert result.suggestion == pytest.approx(1e-3, rel=0.06)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e4])
def test_divergence_ends_the_test(value):
    result = run_lr_finder(lambda rate: value if rate > 0.5 else decrease_at(1e-3)(rate), rates=RATES, smoothing=0.9)
    assert result.diverged
    assert all(map(math.isfinite, result.losses))
    finite = [rate for rate in RATES if rate <= 0.5]
    assert result.rates == (tuple(RATES[: len(finite) + 1]) if math.isfinite(value) else tuple(finite))
    assert result.suggestion == pytest.approx(1e-3, rel=0.06)


def test_no_suggestion_without_a_decrease():
    assert run_lr_finder(lambda rate: 1 + rate, rates=RATES, smoothing=0.9).suggestion is None
    assert LRFinderResult((), (), (), window=5, diverged=True).suggestion is None


def test_rates_have_a_constant_ratio():
    assert exponential_rates(1e-3, 10.0, count=5) == pytest.approx([1e-3, 1e-2, 1e-1, 1, 10])
