"""Latency of equal evaluations, and the Pareto front."""

import pytest

from dl_lib.evaluation.scores.threshold_sweep import SweepPoint, ThresholdSweep, pareto_optimal


def test_latency_is_that_of_the_faster_evaluation_and_noise_the_median_difference():
    seconds = [(1.0, 1.2), (0.5, 0.5), (3.3, 3.0)]
    points = tuple(SweepPoint(at / 10, None, pair) for at, pair in enumerate(seconds))
    assert [point.latency for point in points] == [1.0, 0.5, 3.0]
    assert ThresholdSweep(points, default_threshold=0.0).latency_noise == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("costs", "scores", "front"),
    [
        ([1.0], [0.5], [True]),
        ([1, 2, 3], [1, 3, 2], [True, True, False]),
        ([2, 1, 1], [1, 1, 0], [False, True, False]),
        ([1, 1], [1, 1], [True, True]),
    ],
    ids=["single", "dominated", "equal cost or score", "equal points"],
)
def test_pareto_front(costs, scores, front):
    assert pareto_optimal(costs, scores=scores) == front
