"""Event storage compared with a plain list of all recorded values."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dl_lib.utils.events import EventStorage

PUTS = st.lists(st.tuples(st.sampled_from("abc"), st.floats(-1e6, 1e6), st.integers(0, 2)), min_size=1, max_size=40)


@given(PUTS, st.integers(1, 10))
def test_storage_equals_a_plain_list(puts, window):
    events, written = EventStorage(iteration=5), []
    for name, value, steps in puts:
        events.iteration += steps
        events.put({name: value})
        written.append((name, value, events.iteration))
    assert events.names() == tuple(dict.fromkeys(name for name, _, _ in written))
    for name in events.names():
        values = [value for other, value, _ in written if other == name]
        assert events.latest(name) == values[-1]
        assert events.median(name, window=window) == pytest.approx(statistics.median(values[-window:]))
    for since in range(4, events.iteration + 1):
        newest = {name: (value, at) for name, value, at in written}
        expected = {name: (value, at) for name, (value, at) in newest.items() if at > since}
        found = events.since(since)
        assert {name: (value, at) for at, values in found.items() for name, value in values.items()} == expected
        assert list(found) == sorted(found)


def test_current_eval_metrics_are_those_of_the_current_iteration():
    events = EventStorage()
    events.iteration = 3
    events.put({"loss": 1.0, "mIoU": 0.0})
    assert events.current_eval_metrics() == {}
    events.put({"mIoU": 0.5, "flops": 2.0}, is_eval=True)
    assert events.current_eval_metrics() == {"mIoU": 0.5, "flops": 2.0}
    events.iteration = 4
    events.put({"loss": 1.0})
    assert events.current_eval_metrics() == {}
    events.put({"mIoU": 0.6}, is_eval=True)
    assert events.current_eval_metrics() == {"mIoU": 0.6}


def test_all_values_of_eval_metrics_are_returned_with_their_iterations():
    events = EventStorage()
    for iteration in range(1, 6):
        events.iteration = iteration
        events.put({"loss": float(iteration)})
        if iteration % 2 == 0:
            events.put({"mIoU": iteration / 10}, is_eval=True)
    assert events.since(0) == {2: {"mIoU": 0.2}, 4: {"mIoU": 0.4}, 5: {"loss": 5.0}}
    assert events.since(4) == {5: {"loss": 5.0}}


def test_unknown_name_lists_the_nearest():
    events = EventStorage()
    events.put({"total_loss": 1.0, "learning_rate": 0.1})
    with pytest.raises(KeyError, match=r"total_loss.*Received: name='totl_loss'"):
        events.latest("totl_loss")
