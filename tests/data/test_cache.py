"""The cache gives what the data set gives, is made once, and is never a wrong or a half one."""

import logging
import multiprocessing
import os
import pickle
import resource
import shutil
import time
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dl_lib.data import cache
from dl_lib.data.cache import CacheError, cached_dataset
from dl_lib.data.errors import UnreadableFileError
from dl_lib.data.raw_dataset import fingerprint_files


class Folder:
    """Samples of different sizes and label types, one for each file in a folder; remembers what it read."""

    LABEL_TYPES = (np.uint8, np.int16, np.int64, None)

    def __init__(self, folder):
        self.paths = sorted(map(str, folder.glob("*.txt")))
        self.read = []

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        self.read.append(index)
        text = Path(self.paths[index]).read_text()
        if text == "damaged":
            raise UnreadableFileError(f"{self.paths[index]} is damaged. Received: text={text!r}")
        draws = np.random.default_rng(int(text))
        size = (5 + index, 9)
        sample = {
            "image": draws.integers(0, 256, (*size, 3)).astype(np.uint8),
            "image_id": f"image {index}",
            "file_name": self.paths[index],
        }
        label_type = self.LABEL_TYPES[index % 4]
        if label_type is not None:
            sample["sem_seg"] = draws.integers(0, 99, size).astype(label_type)
        return sample

    def fingerprint(self):
        return fingerprint_files(self.paths)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "files"
    folder.mkdir()
    for index in range(6):
        (folder / f"{index}.txt").write_text(str(index))
    return folder


@pytest.fixture
def place(tmp_path):
    return tmp_path / "a" / "cache"


def assert_same_samples(one, other):
    assert len(one) == len(other)
    for index in range(len(one)):
        left, right = one[index], other[index]
        assert left.keys() == right.keys()
        for key in left:
            np.testing.assert_array_equal(left[key], right[key])
            assert getattr(left[key], "dtype", None) == getattr(right[key], "dtype", None)


def test_the_same_samples_and_each_read_once(folder, place):
    dataset = Folder(folder)
    cached = cached_dataset(dataset, name="set", folder=place)
    assert dataset.read == list(range(6))
    assert_same_samples(cached, Folder(folder))
    again = Folder(folder)
    assert_same_samples(cached_dataset(again, name="set", folder=place), Folder(folder))
    assert again.read == []
    assert sorted(path.name for path in place.iterdir()) == ["set.cache", "set.lock"]


def test_arrays_are_views_of_one_read_only_map(folder, place):
    cached = cached_dataset(Folder(folder), name="set", folder=place)
    images = [cached[index]["image"] for index in range(6)]
    assert not any(image.flags.writeable or image.flags.owndata for image in images)
    starts = [image.__array_interface__["data"][0] for image in images]
    assert starts == sorted(starts)
    assert max(starts) - min(starts) < cached.path.stat().st_size
    assert all(start % 64 == 0 for start in starts)


def test_names_of_data_sets_may_be_anything(folder, place):
    cached = cached_dataset(Folder(folder), name="../mine/a b", folder=place)
    assert cached.path.parent == place


@pytest.mark.parametrize("change", ["content", "time", "more", "fewer", "library"])
def test_a_changed_data_set_is_read_anew(folder, place, change, monkeypatch):
    cached_dataset(Folder(folder), name="set", folder=place)
    if change == "content":
        status = (folder / "3.txt").stat()
        (folder / "3.txt").write_text("33")
        os.utime(folder / "3.txt", ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "time":
        os.utime(folder / "3.txt", ns=(1, 1))
    elif change == "more":
        (folder / "7.txt").write_text("7")
    elif change == "fewer":
        (folder / "3.txt").unlink()
    else:
        monkeypatch.setattr(cache, "version", lambda name: "99")
    dataset = Folder(folder)
    cached = cached_dataset(dataset, name="set", folder=place)
    assert dataset.read == list(range(len(dataset)))
    assert_same_samples(cached, Folder(folder))


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 4096])
def test_what_is_no_whole_cache_is_made_anew(folder, place, damage):
    path = cached_dataset(Folder(folder), name="set", folder=place).path
    whole = path.read_bytes()
    for content in (damage, whole[: len(whole) // 2], whole[:-1], b"[]" + whole[-16:], b"{}" + bytes(8) + whole[-8:]):
        path.write_bytes(content)
        dataset = Folder(folder)
        assert_same_samples(cached_dataset(dataset, name="set", folder=place), Folder(folder))
        assert dataset.read == list(range(6))


def test_a_sample_that_cannot_be_read_is_asked_for_again(folder, place, caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("dl_lib"), "propagate", True)
    (folder / "2.txt").write_text("damaged")
    cached = cached_dataset(Folder(folder), name="set", folder=place)
    assert any("sample 2 is not in the cache" in text and "2.txt is damaged" in text for text in caplog.messages)
    with pytest.raises(UnreadableFileError, match=r"2\.txt is damaged"):
        cached[2]
    np.testing.assert_array_equal(cached[3]["image"], Folder(folder)[3]["image"])
    (folder / "2.txt").write_text("2")
    np.testing.assert_array_equal(cached[2]["image"], Folder(folder)[2]["image"])


def test_another_process_gets_the_names_and_maps_the_file_itself(folder, place):
    cached = cached_dataset(Folder(folder), name="set", folder=place)
    assert cached[0]["image"].any()  # it is mapped here
    sent = pickle.dumps(cached)
    assert len(sent) < 4096
    assert_same_samples(pickle.loads(sent), Folder(folder))


def test_a_file_that_was_exchanged_under_a_run_is_noticed(folder, place):
    late = cached_dataset(Folder(folder), name="set", folder=place)
    early = pickle.loads(pickle.dumps(late))
    expected = early[4]["image"].copy()
    (folder / "0.txt").write_text("1000")
    cached_dataset(Folder(folder), name="set", folder=place)
    with pytest.raises(CacheError, match=r"made anew since this run began; start the run again"):
        late[4]
    np.testing.assert_array_equal(early[4]["image"], expected)  # a map once made stays what it was
    late.path.unlink()
    with pytest.raises(CacheError, match="was taken away or made anew"):
        late[4]


def _make(folder, place, meeting):
    """In a process of its own: wait for two others, then ask for the cache; takes down every sample that is read."""
    (meeting / f"{os.getpid()}.here").touch()
    while len(list(meeting.glob("*.here"))) < 3:
        time.sleep(0.005)

    class Slow(Folder):
        def __getitem__(self, index):
            with (meeting / "log").open("a") as file:
                file.write(f"{index}\n")
            time.sleep(0.03)
            return super().__getitem__(index)

    cached = cached_dataset(Slow(folder), name="set", folder=place)
    return [int(cached[index]["image"].sum()) for index in range(len(cached))]


def test_several_processes_at_once_make_it_once(folder, place, tmp_path):
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(_make, folder, place, tmp_path) for _ in range(3)]
        sums = [job.result() for job in jobs]
    expected = [int(Folder(folder)[index]["image"].sum()) for index in range(6)]
    assert sums == [expected] * 3
    assert (tmp_path / "log").read_text().split() == [str(index) for index in range(6)]


def test_a_set_without_fingerprint_is_refused(place):
    with pytest.raises(CacheError, match=r"the data set set cannot be cached.*fingerprint\(\).*Received: list$"):
        cached_dataset([1, 2], name="set", folder=place)


def test_a_disk_that_will_not_hold_it_is_noticed_before_it_is_full(folder, place, monkeypatch):
    for index in range(6, 40):
        (folder / f"{index}.txt").write_text(str(index))
    dataset = Folder(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1000))
    with pytest.raises(CacheError, match=r"after 16 of 40 samples, about 0.00 GB more are needed and 0.00 GB are free"):
        cached_dataset(dataset, name="set", folder=place)
    assert len(dataset.read) == 16
    assert [path.name for path in place.iterdir()] == ["set.lock"]


def test_a_file_that_cannot_grow_is_said_and_leaves_nothing(folder, place):
    """As on a full disk: the system refuses to write more than so many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, limits[1]))
    try:
        with pytest.raises(CacheError, match=r"of set cannot be written: .*CACHE_DIR. Received: folder="):
            cached_dataset(Folder(folder), name="set", folder=place)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in place.iterdir()] == ["set.lock"]


def test_a_folder_that_cannot_be_made_is_said(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"of set cannot be written: .*Received: folder='.*/file/cache'"):
        cached_dataset(Folder(folder), name="set", folder=tmp_path / "file" / "cache")


def test_memory_stays_flat_while_it_is_made_and_read(tmp_path, place):
    class Large:
        def __len__(self):
            return 40

        def __getitem__(self, index):
            return {"image": np.full((600, 600, 3), index, np.uint8), "image_id": str(index), "file_name": str(index)}

        def fingerprint(self):
            return ""

    tracemalloc.start()
    cached = cached_dataset(Large(), name="large", folder=place)
    total = sum(int(cached[index]["image"][3, 4, 0]) for index in range(40))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == sum(range(40))
    assert cached.path.stat().st_size > 40 * 600 * 600 * 3
    assert peak < 4 * 600 * 600 * 3


def test_fingerprints_tell_files_apart(tmp_path):
    paths = [str(tmp_path / name) for name in ("a", "b")]
    missing = fingerprint_files(paths)
    for path in paths:
        Path(path).write_text(path)
    there = fingerprint_files(paths)
    seen = {missing, there, fingerprint_files(paths[::-1]), fingerprint_files(paths, extra="x"), fingerprint_files([])}
    assert len(seen) == 5
    assert fingerprint_files(paths) == there
