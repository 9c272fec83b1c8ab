import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dl_lib.data.serialized_list import SerializedList

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
JSON = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


@settings(deadline=None)  # the machine may be busy
@given(st.lists(JSON, max_size=8))
def test_records_come_back_one_by_one(records):
    packed = SerializedList(iter(records))
    assert len(packed) == len(records)
    assert [packed[index] for index in range(len(packed))] == records
    assert list(pickle.loads(pickle.dumps(packed))) == records


def test_all_that_is_held_is_bytes_and_where_records_end():
    """No Python object for each record: nothing whose reference count a worker would write to."""
    packed = SerializedList([["aachen_000000_000019", f"{index:04d}.png"] for index in range(1000)])
    assert packed._bytes.nbytes == 1000 * len('["aachen_000000_000019","0000.png"]')
    assert packed._ends.nbytes == 8000
    assert set(vars(packed)) == {"_bytes", "_ends"}
    assert len(pickle.dumps(packed)) < packed._bytes.nbytes + packed._ends.nbytes + 1000


@pytest.mark.parametrize("index", [-1, 2, 100])
def test_an_index_beyond_the_records_is_refused(index):
    with pytest.raises(IndexError, match=rf"in 0..1\. Received: index={index}$"):
        SerializedList(["a", "b"])[index]


def test_what_json_does_not_know_is_refused():
    with pytest.raises(TypeError, match="not JSON serializable"):
        SerializedList([{1, 2}])
