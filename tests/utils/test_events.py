"""Event storage compared with a plain list of all recorded values."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dl_lib.utils.events import EventStorage, window_start

PUTS = st.lists(st.tuples(st.sampled_from("abc"), st.floats(-1e6, 1e6), st.integers(0, 2)), min_size=1, max_size=40)


@given(PUTS)
def test_storage_equals_a_plain_list(puts):
    events, written = EventStorage(iteration=5), []
    for name, value, steps in puts:
        events.iteration += steps
        events.put({name: value}, kind="latest" if name == "c" else "step")
        written.append((name, value, events.iteration))
    names = tuple(dict.fromkeys(name for name, _, _ in written))
    assert tuple(events.summary(after=4)) == names
    for name in "abc":
        at_present = [value for other, value, at in written if other == name and at == events.iteration]
        assert events.current(name) == (at_present[-1] if at_present else None)
    for after in range(4, events.iteration + 1):
        found = events.summary(after=after)
        for name in names:
            values = [value for other, value, at in written if other == name and at > after]
            logged = found.pop(name, None)
            assert logged == ((values[-1] if name == "c" else statistics.median(values)) if values else None)
        assert found == {}
    restored = EventStorage(iteration=events.iteration)
    restored.load_state_dict(events.state_dict())
    assert restored.summary(after=5) == events.summary(after=5)
    assert tuple(restored.summary(after=4)) == names


@pytest.mark.parametrize(("iteration", "period", "start"), [(1, 5, 0), (5, 5, 0), (6, 5, 5), (8, 1, 7), (3, 100, 0)])
def test_windows_start_at_multiples_of_the_period(iteration, period, start):
    assert window_start(iteration, period=period) == start


def test_current_eval_metrics_are_those_of_the_current_iteration():
    events = EventStorage()
    events.iteration = 3
    events.put({"loss": 1.0, "mIoU": 0.0})
    assert events.current_eval_metrics() == {}
    events.put({"mIoU": 0.5, "flops": 2.0}, kind="evaluation")
    assert events.current_eval_metrics() == {"mIoU": 0.5, "flops": 2.0}
    events.iteration = 4
    events.put({"loss": 1.0})
    assert events.current_eval_metrics() == {}
    events.put({"mIoU": 0.6}, kind="evaluation")
    assert events.current_eval_metrics() == {"mIoU": 0.6}


def test_all_values_of_eval_metrics_are_returned_with_their_iterations():
    events = EventStorage()
    for iteration in range(1, 6):
        events.iteration = iteration
        events.put({"loss": float(iteration)})
        if iteration % 2 == 0:
            events.put({"mIoU": iteration / 10}, kind="evaluation")
    assert events.evaluations(after=0) == {2: {"mIoU": 0.2}, 4: {"mIoU": 0.4}}
    assert events.evaluations(after=2) == {4: {"mIoU": 0.4}}
    assert events.summary(after=2) == {"loss": 4.0}


def test_unknown_name_lists_the_nearest():
    events = EventStorage()
    events.put({"total_loss": 1.0, "learning_rate": 0.1})
    with pytest.raises(KeyError, match=r"total_loss.*Received: name='totl_loss'"):
        events.latest("totl_loss")
