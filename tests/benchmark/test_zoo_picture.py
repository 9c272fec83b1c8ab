"""The picture of experiments: bars as long as what they stand for, a disc for each run, no room for what is missing."""

import numpy as np
import pytest

from dl_lib.benchmark.zoo import ZooEntry
from dl_lib.benchmark.zoo_picture import draw_zoo
from dl_lib.plots.runs import COLORS


def entry(name, *, gflops, seconds=None, scores=()):
    return ZooEntry(name, parameters=1, gflops=gflops, seconds=seconds, scores=scores)


def bars(picture):
    """Lengths in pixels of the runs of a bar's colour, row by row; on the upper edge of bars, which no disc hides."""
    lengths = []
    for row in picture:
        blue = row[:, 2].astype(int) - row[:, 0] > 40
        edges = np.flatnonzero(np.diff(np.concatenate([[0], blue, [0]])))
        lengths.append([int(end - start) for start, end in edges.reshape(-1, 2) if end - start > 8])
    kept = [found for found, above in zip(lengths[1:], lengths, strict=False) if found and not above]
    return kept


def test_bars_are_as_long_as_what_they_stand_for():
    entries = [entry("a", gflops=10.0, seconds=0.2), entry("b", gflops=5.0, seconds=0.4)]
    (a_gflops, a_seconds), (b_gflops, b_seconds) = bars(draw_zoo(entries, size=(64, 96)))
    assert a_gflops / b_gflops == pytest.approx(2, abs=0.05) and b_seconds / a_seconds == pytest.approx(2, abs=0.05)
    assert a_gflops == pytest.approx(b_seconds, abs=2), "each column has a scale of its own"


def test_a_disc_for_each_run_and_the_bar_ends_at_their_mean():
    picture = draw_zoo([entry("a", gflops=1.0, scores=(0.2, 0.5, 0.8))], size=(64, 96))
    discs = (picture == np.array(COLORS[0])).all(axis=2).any(axis=0)
    starts = np.flatnonzero(np.diff(discs.astype(int)) == 1)
    assert len(starts) == 3 and np.diff(starts) == pytest.approx([starts[1] - starts[0]] * 2, abs=1)
    ((score_bar, _),) = bars(picture)
    left = starts[1] + 4 - score_bar  # where the bar begins if it ends at the disc in the middle
    assert (starts[1] - left) / (starts[0] - left) == pytest.approx(0.5 / 0.2, rel=0.1)


def test_what_no_experiment_has_is_left_out():
    alone = draw_zoo([entry("a", gflops=1.0)], size=(64, 96))
    timed = draw_zoo([entry("a", gflops=1.0, seconds=1.0)], size=(64, 96))
    assert len(bars(alone)[0]) == 1 and len(bars(timed)[0]) == 2 and timed.shape[1] > alone.shape[1]
