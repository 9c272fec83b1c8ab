"""The range test on losses whose steepest descent and divergence are known."""

import math

import pytest

from dl_lib.solver.lr_finder import LRFinderResult, exponential_rates, run_lr_finder

RATES = exponential_rates(1e-6, 10.0, count=141)  # 20 a decade


def descent_at(rate, *, width=0.3):
    """Falls from 2 to 1, most steeply there."""
    return lambda r: 1.5 - 0.5 * math.tanh(math.log10(r / rate) / width)


@pytest.mark.parametrize("rate", [1e-4, 1e-3, 0.1])
@pytest.mark.parametrize("smoothing", [0.0, 0.9])
def test_suggestion_is_where_the_loss_falls_most_steeply_however_the_average_lags(rate, smoothing):
    result = run_lr_finder(descent_at(rate), rates=RATES, smoothing=smoothing)
    assert not result.diverged
    assert result.rates == tuple(RATES)
    assert result.suggestion == pytest.approx(rate, rel=0.06)  # half of the step from one rate to the next


def test_a_steeper_fall_after_the_lowest_average_does_not_count():
    def loss(rate):
        return descent_at(1e-3)(rate) if rate < 0.1 else 3.0 if rate < 1 else 2.0 - math.log10(rate)

    result = run_lr_finder(loss, rates=RATES, smoothing=0.5)
    assert result.suggestion == pytest.approx(1e-3, rel=0.06)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e4])
def test_divergence_ends_the_test(value):
    result = run_lr_finder(lambda rate: value if rate > 0.5 else descent_at(1e-3)(rate), rates=RATES, smoothing=0.9)
    assert result.diverged
    assert all(map(math.isfinite, result.losses))
    finite = [rate for rate in RATES if rate <= 0.5]
    assert result.rates == (tuple(RATES[: len(finite) + 1]) if math.isfinite(value) else tuple(finite))
    assert result.suggestion == pytest.approx(1e-3, rel=0.06)


def test_no_suggestion_where_nothing_falls():
    assert run_lr_finder(lambda rate: 1 + rate, rates=RATES, smoothing=0.9).suggestion is None
    assert LRFinderResult((), (), (), line_points=5, diverged=True).suggestion is None


def test_rates_grow_by_the_same_factor():
    assert exponential_rates(1e-3, 10.0, count=5) == pytest.approx([1e-3, 1e-2, 1e-1, 1, 10])
