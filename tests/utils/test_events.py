"""The storage against a plain list of everything that was put into it."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dl_lib.utils.events import EventStorage

PUTS = st.lists(st.tuples(st.sampled_from("abc"), st.floats(-1e6, 1e6), st.integers(0, 2)), min_size=1, max_size=40)


@given(PUTS, st.integers(1, 10))
def test_equals_a_plain_list(puts, window):
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
        assert events.since(since) == {name: value for name, (value, at) in newest.items() if at > since}


def test_unknown_name_gives_the_nearest():
    events = EventStorage()
    events.put({"total_loss": 1.0, "learning_rate": 0.1})
    with pytest.raises(KeyError, match=r"total_loss.*Received: name='totl_loss'"):
        events.latest("totl_loss")
