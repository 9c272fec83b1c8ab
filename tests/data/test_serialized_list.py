import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dl_lib.data.serialized_list import SerializedList

PLAIN = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
JSON = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


@settings(deadline=None)  # the machine may be under load
@given(st.lists(JSON, max_size=8))
def test_records_round_trip(records):
    serialized = SerializedList(iter(records))
    assert len(serialized) == len(records)
    assert [serialized[index] for index in range(len(serialized))] == records
    assert list(pickle.loads(pickle.dumps(serialized))) == records


def test_list_stores_only_bytes_and_offsets():
    """Without one Python object per record, workers do not write reference counts to shared pages."""
    serialized = SerializedList([["aachen_000000_000019", f"{index:04d}.png"] for index in range(1000)])
    assert serialized._bytes.nbytes == 1000 * len('["aachen_000000_000019","0000.png"]')
    assert serialized._ends.nbytes == 8000
    assert set(vars(serialized)) == {"_bytes", "_ends"}
    assert len(pickle.dumps(serialized)) < serialized._bytes.nbytes + serialized._ends.nbytes + 1000


@pytest.mark.parametrize("index", [-1, 2, 100])
def test_index_out_of_range_raises(index):
    with pytest.raises(IndexError, match=rf"in 0..1\. Received: index={index}$"):
        SerializedList(["a", "b"])[index]


def test_non_json_record_raises():
    with pytest.raises(TypeError, match="not JSON serializable"):
        SerializedList([{1, 2}])
