"""MATLAB files: matrices against those that SciPy writes, and damaged files, some of which end SciPy's reader."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from dl_lib.data.datasets.mat_file import MatFileError, read_uint8_field

LABEL = np.random.default_rng(0).integers(0, 21, (20, 17)).astype(np.uint8)


def mat_file(*, compressed, label=LABEL):
    file = io.BytesIO()
    fields = {"Boundaries": np.zeros((3,), object), "Segmentation": label, "CategoriesPresent": np.ones((2, 1))}
    savemat(file, {"other": np.zeros(3), "GTcls": fields}, do_compression=compressed)
    return file.getvalue()


def read(data):
    return read_uint8_field(data, variable="GTcls", field="Segmentation")


FILES = [mat_file(compressed=compressed) for compressed in (False, True)]


def test_written_matrix_is_read():
    for data in FILES:
        label = read(data)
        assert label.flags.c_contiguous
        assert label.flags.writeable
        np.testing.assert_array_equal(label, LABEL)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(FILES), st.lists(st.tuples(st.integers(0, 900), st.integers(0, 255)), max_size=4), st.booleans())
def test_changed_bytes_are_read_or_raise(data, changes, cut):
    changed = bytearray(data)
    for position, value in changes:
        changed[position % len(changed)] = value
    try:
        label = read(bytes(changed[: changes[0][0]] if cut and changes else changed))
    except MatFileError as error:
        assert str(error)
    else:
        assert label.dtype == np.uint8
        assert label.ndim == 2


def nested(depth):
    """Return a file whose variable contains cells in cells."""
    before = bytes.fromhex("0600000008000000 0100000000000000 0500000008000000 0100000001000000 0100000000000000")
    content = b""
    for _ in range(depth):
        content = struct.pack("<II", 14, len(before) + len(content)) + before + content
    return FILES[0][:128] + content


@pytest.mark.parametrize(
    ("data", "received"),
    [
        (nested(3000), "no struct GTcls"),
        (FILES[0][:128] + struct.pack("<II", 15, 2**31) + b"x", "an element of 2147483648 bytes where 1 are left"),
        (FILES[0][:128] + struct.pack("<II", 15, 4) + b"text", "compressed data: Error -3"),
        (FILES[1][:200], "an element of"),
        (FILES[0].replace(struct.pack("<ii", *LABEL.shape), struct.pack("<ii", 2**31 - 1, -3)), "340 values, shape="),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM", "no MATLAB 5 file but 128 bytes"),
    ],
)
def test_damaged_file_raises(data, received):
    with pytest.raises(MatFileError, match=received):
        read(data)


def test_decompression_is_bounded(monkeypatch):
    monkeypatch.setattr("dl_lib.data.datasets.mat_file._MAX_UNCOMPRESSED_BYTES", 10**6)
    content = zlib.compress(bytes(10**7))
    with pytest.raises(MatFileError, match="truncated or too large"):
        read(FILES[0][:128] + struct.pack("<II", 15, len(content)) + content)
