"""Memory-mapped cache: equal samples, invalidation, concurrency and failed writes."""

import errno
import fcntl
import json
import multiprocessing
import os
import pickle
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
from dl_lib.data.raw_dataset import fingerprint_files, image_size
from tests.helpers.full_disk import limited_file_size


class Folder:
    """Dataset with one sample per file, of different sizes and label dtypes, that records the read indices."""

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
        rng = np.random.default_rng(int(text))
        size = (5 + index, 9)
        sample = {
            "image": rng.integers(0, 256, (*size, 3)).astype(np.uint8),
            "image_id": f"image {index}",
            "file_name": self.paths[index],
        }
        label_type = self.LABEL_TYPES[index % 4]
        if label_type is not None:
            sample["sem_seg"] = rng.integers(0, 99, size).astype(label_type)
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
def cache_folder(tmp_path):
    return tmp_path / "a" / "cache"


def assert_same_samples(one, other):
    assert len(one) == len(other)
    for index in range(len(one)):
        sample, expected = one[index], other[index]
        assert image_size(one, index) == expected["image"].shape[:2]
        assert sample.keys() == expected.keys()
        for key in sample:
            np.testing.assert_array_equal(sample[key], expected[key])
            assert getattr(sample[key], "dtype", None) == getattr(expected[key], "dtype", None)


def test_cache_returns_equal_samples_and_reads_each_once(folder, cache_folder):
    dataset = Folder(folder)
    cached = cached_dataset(dataset, name="set", folder=cache_folder)
    assert dataset.read == list(range(6))
    assert_same_samples(cached, Folder(folder))
    again = Folder(folder)
    assert_same_samples(cached_dataset(again, name="set", folder=cache_folder), Folder(folder))
    assert again.read == []
    assert sorted(path.name for path in cache_folder.iterdir()) == ["set.cache", "set.lock"]


def test_arrays_are_views_of_one_read_only_map(folder, cache_folder):
    cached = cached_dataset(Folder(folder), name="set", folder=cache_folder)
    images = [cached[index]["image"] for index in range(6)]
    assert not any(image.flags.writeable or image.flags.owndata for image in images)
    starts = [image.__array_interface__["data"][0] for image in images]
    assert starts == sorted(starts)
    assert max(starts) - min(starts) < cached.path.stat().st_size
    assert all(start % 64 == 0 for start in starts)


def test_dataset_names_are_escaped_in_the_file_name(folder, cache_folder):
    cached = cached_dataset(Folder(folder), name="../mine/a b", folder=cache_folder)
    assert cached.path.parent == cache_folder


@pytest.mark.parametrize("change", ["content", "time", "more", "fewer", "library"])
def test_changed_dataset_rebuilds_the_cache(folder, cache_folder, change, monkeypatch):
    cached_dataset(Folder(folder), name="set", folder=cache_folder)
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
    cached = cached_dataset(dataset, name="set", folder=cache_folder)
    assert dataset.read == list(range(len(dataset)))
    assert_same_samples(cached, Folder(folder))


@pytest.mark.parametrize("damage", [b"", b"short", b"x" * 4096])
def test_damaged_cache_is_rebuilt(folder, cache_folder, damage):
    path = cached_dataset(Folder(folder), name="set", folder=cache_folder).path
    whole = path.read_bytes()
    for content in (damage, whole[: len(whole) // 2], whole[:-1], b"[]" + whole[-16:], b"{}" + bytes(8) + whole[-8:]):
        path.write_bytes(content)
        dataset = Folder(folder)
        assert_same_samples(cached_dataset(dataset, name="set", folder=cache_folder), Folder(folder))
        assert dataset.read == list(range(6))


def test_invalid_sample_is_not_cached_but_read_from_the_dataset(folder, cache_folder, log):
    (folder / "2.txt").write_text("damaged")
    cached = cached_dataset(Folder(folder), name="set", folder=cache_folder)
    assert any("invalid sample 2" in text and "2.txt is damaged" in text for text in log.messages)
    with pytest.raises(UnreadableFileError, match=r"2\.txt is damaged"):
        cached[2]
    np.testing.assert_array_equal(cached[3]["image"], Folder(folder)[3]["image"])
    (folder / "2.txt").write_text("2")
    np.testing.assert_array_equal(cached[2]["image"], Folder(folder)[2]["image"])


@pytest.mark.parametrize("name", ["image", "sem_seg"])
def test_damaged_sample_is_read_from_the_dataset(folder, cache_folder, name, log):
    path = cached_dataset(Folder(folder), name="set", folder=cache_folder).path
    content = bytearray(path.read_bytes())
    start = json.loads(content[content.rindex(b'{"fingerprint"') : -24])["records"][1][name][0]
    content[start + 7] ^= 1
    path.write_bytes(content)
    dataset = Folder(folder)
    cached = cached_dataset(dataset, name="set", folder=cache_folder)
    for _ in range(2):
        assert_same_samples(cached, Folder(folder))
    assert dataset.read == [1, 1]
    (message,) = (text for text in log.messages if "Damaged" in text)
    assert message.startswith(f"Damaged sample 1 in the cache {path}; reading its original instead: ")
    assert message.endswith("1.txt. Delete the cache to rebuild it")


def test_sample_is_verified_once_for_all_forked_processes(folder, cache_folder, monkeypatch):
    verified = []
    cached = cached_dataset(Folder(folder), name="set", folder=cache_folder)
    monkeypatch.setattr(cache, "checksum", lambda sample, own=cache.checksum: verified.append(sample) or own(sample))
    worker = multiprocessing.get_context("fork").Process(target=cached.__getitem__, args=(2,))
    worker.start()
    worker.join()
    for index in (2, 2, 3, 3):
        assert cached[index]["image"].any()
    assert [sample["image_id"] for sample in verified] == ["image 3"]


def test_damaged_index_rebuilds_the_cache(folder, cache_folder):
    path = cached_dataset(Folder(folder), name="set", folder=cache_folder).path
    path.write_bytes(path.read_bytes().replace(b'"image 3"', b'"image 4"'))
    dataset = Folder(folder)
    assert_same_samples(cached_dataset(dataset, name="set", folder=cache_folder), Folder(folder))
    assert dataset.read == list(range(6))


def test_pickled_cache_contains_no_samples(folder, cache_folder):
    cached = cached_dataset(Folder(folder), name="set", folder=cache_folder)
    assert cached[0]["image"].any()  # opens the map in this process
    sent = pickle.dumps(cached)
    assert len(sent) < 4096
    assert_same_samples(pickle.loads(sent), Folder(folder))


def test_replaced_or_deleted_file_is_detected(folder, cache_folder):
    late = cached_dataset(Folder(folder), name="set", folder=cache_folder)
    early = pickle.loads(pickle.dumps(late))
    expected = early[4]["image"].copy()
    (folder / "0.txt").write_text("1000")
    cached_dataset(Folder(folder), name="set", folder=cache_folder)
    with pytest.raises(CacheError, match=r"rebuilt by another process during this run; restart the run"):
        late[4]
    np.testing.assert_array_equal(early[4]["image"], expected)  # an open map keeps the old content
    late.path.unlink()
    with pytest.raises(CacheError, match="was deleted or rebuilt"):
        late[4]


def _open_cache(folder, cache_folder, barrier):
    """Wait for two other processes, then open the cache and log each sample that is read."""
    (barrier / f"{os.getpid()}.here").touch()
    while len(list(barrier.glob("*.here"))) < 3:
        time.sleep(0.005)

    class Slow(Folder):
        def __getitem__(self, index):
            with (barrier / "log").open("a") as file:
                file.write(f"{index}\n")
            time.sleep(0.03)
            return super().__getitem__(index)

    cached = cached_dataset(Slow(folder), name="set", folder=cache_folder)
    return [int(cached[index]["image"].sum()) for index in range(len(cached))]


def test_concurrent_processes_build_the_cache_once(folder, cache_folder, tmp_path):
    with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(_open_cache, folder, cache_folder, tmp_path) for _ in range(3)]
        sums = [job.result() for job in jobs]
    expected = [int(Folder(folder)[index]["image"].sum()) for index in range(6)]
    assert sums == [expected] * 3
    assert (tmp_path / "log").read_text().split() == [str(index) for index in range(6)]


def test_dataset_without_fingerprint_raises(cache_folder):
    with pytest.raises(CacheError, match=r"dataset set cannot be cached.*fingerprint\(\).*Received: list$"):
        cached_dataset([1, 2], name="set", folder=cache_folder)


def test_too_small_disk_is_detected_before_it_is_full(folder, cache_folder, monkeypatch):
    for index in range(6, 40):
        (folder / f"{index}.txt").write_text(str(index))
    dataset = Folder(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1000))
    with pytest.raises(CacheError, match=r"after 16 of 40 samples, about 0.00 GB more are needed but 0.00 GB are free"):
        cached_dataset(dataset, name="set", folder=cache_folder)
    assert len(dataset.read) == 16
    assert [path.name for path in cache_folder.iterdir()] == ["set.lock"]


def test_file_system_without_locks_is_a_warning(folder, cache_folder, monkeypatch, caplog):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    assert_same_samples(cached_dataset(Folder(folder), name="set", folder=cache_folder), Folder(folder))
    assert "cannot be locked (No locks available)" in caplog.text


def test_failed_write_raises_and_leaves_no_file(folder, cache_folder):
    message = r"of set cannot be written: .*CACHE_DIR.*Received: folder="
    with limited_file_size(500), pytest.raises(CacheError, match=message):
        cached_dataset(Folder(folder), name="set", folder=cache_folder)
    assert [path.name for path in cache_folder.iterdir()] == ["set.lock"]


def test_uncreatable_folder_raises(folder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"of set cannot be written: .*Received: folder='.*/file/cache'"):
        cached_dataset(Folder(folder), name="set", folder=tmp_path / "file" / "cache")


def test_memory_use_is_constant_while_building_and_reading(tmp_path, cache_folder):
    class Large:
        def __len__(self):
            return 40

        def __getitem__(self, index):
            return {"image": np.full((600, 600, 3), index, np.uint8), "image_id": str(index), "file_name": str(index)}

        def fingerprint(self):
            return ""

    tracemalloc.start()
    cached = cached_dataset(Large(), name="large", folder=cache_folder)
    total = sum(int(cached[index]["image"][3, 4, 0]) for index in range(40))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == sum(range(40))
    assert cached.path.stat().st_size > 40 * 600 * 600 * 3
    assert peak < 4 * 600 * 600 * 3


def test_fingerprint_depends_on_files_order_and_extra(tmp_path):
    paths = [str(tmp_path / name) for name in ("a", "b")]
    missing = fingerprint_files(paths)
    for path in paths:
        Path(path).write_text(path)
    there = fingerprint_files(paths)
    seen = {missing, there, fingerprint_files(paths[::-1]), fingerprint_files(paths, extra="x"), fingerprint_files([])}
    assert len(seen) == 5
    assert fingerprint_files(paths) == there
