"""Bounded reading of npz files."""

import io
import tracemalloc
import zipfile

import numpy as np
import pytest

from dl_lib.config import ConfigError
from dl_lib.evaluation.report import npz_file
from dl_lib.evaluation.report.npz_file import arrays_as_npz, read_npz, unique_names

MIB = 2**20


def read(path, *names, optional=()):
    return read_npz(path, dict, names=names, optional=optional, contents="numbers", advice="make it")


def test_arrays_are_equal_and_optional_ones_may_be_missing(tmp_path):
    arrays = {"one": np.arange(6).reshape(2, 3), "names": np.array(["a", "é"]), "none": np.zeros((0, 3), np.uint8)}
    (tmp_path / "a.npz").write_bytes(arrays_as_npz({**arrays, "unread": np.zeros(3)}))
    found = read(tmp_path / "a.npz", "one", "names", optional=("none", "missing"))
    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
    with pytest.raises(ConfigError, match=r"a.npz is not a file with numbers, or is damaged; .* 'missing.npy'"):
        read(tmp_path / "a.npz", "missing")
    with pytest.raises(ConfigError, match=r"b.npz cannot be read \(No such file or directory\); make it\. Received: p"):
        read(tmp_path / "b.npz", "one")


def test_numpy_reads_the_file_and_bytes_are_not_compressed(monkeypatch):
    arrays = {"bytes": np.zeros(MIB, np.uint8), "zeros": np.zeros(MIB), "names": np.array(["a"])}
    content = arrays_as_npz(arrays)
    monkeypatch.setattr("time.localtime", lambda *_: pytest.fail("the file depends on the time"))
    assert arrays_as_npz(arrays) == content
    assert MIB < len(content) < 1.1 * MIB
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        for name, array in arrays.items():
            np.testing.assert_array_equal(file[name], array)


@pytest.mark.parametrize("stated", [2**10, 2**26])
def test_memory_is_bounded_by_the_stated_size_and_the_limit(tmp_path, monkeypatch, stated):
    """A member that expands to more than it states, and one that states more than the limit."""
    monkeypatch.setattr(npz_file, "_MAX_BYTES", MIB)
    path, expanded = tmp_path / "a.npz", 2**26
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("one.npy", bytes(expanded))
    path.write_bytes(path.read_bytes().replace(expanded.to_bytes(4, "little"), stated.to_bytes(4, "little")))
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError, match="is not a file with numbers"):
            read(path, "one")
        assert tracemalloc.get_traced_memory()[1] < expanded / 8
    finally:
        tracemalloc.stop()


def test_the_limit_applies_to_all_arrays_together(tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "a.npz", one=np.zeros(MIB, np.uint8), two=np.zeros(MIB, np.uint8))
    monkeypatch.setattr(npz_file, "_MAX_BYTES", 2 * MIB)
    assert read(tmp_path / "a.npz", "one")["one"].size == MIB
    with pytest.raises(ConfigError, match=r"more than 2097152 bytes: one has 1048704 bytes, two has 1048704 bytes"):
        read(tmp_path / "a.npz", "one", "two")


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tmp_path, compression):
    np.save(content := io.BytesIO(), np.zeros(3))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", compression) as archive:
        archive.writestr("one.npy", content.getvalue())
    with pytest.raises(ConfigError, match=rf"one has compression {compression}"):
        read(tmp_path / "a.npz", "one")


def test_large_files_are_refused_without_reading_them(tmp_path, monkeypatch):
    monkeypatch.setattr(npz_file, "_MAX_BYTES", MIB)
    with (tmp_path / "a.npz").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ConfigError, match=r"a.npz cannot be read \(larger than the limit of 1,048,576 bytes\)"):
        read(tmp_path / "a.npz", "one")


@pytest.mark.parametrize("names", [np.array(["a", "a"]), np.array([["a", "b"]]), np.arange(2)])
def test_names_are_unique_strings(names):
    with pytest.raises(ValueError, match="name"):
        unique_names(names)
