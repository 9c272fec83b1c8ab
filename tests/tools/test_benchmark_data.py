"""Benchmark of data loading: all implementations produce the same samples."""

import json
import struct
import time
import zlib
from statistics import median

import data
import numpy as np
import pytest
import torch
from data import (
    CHECKSUM,
    CROP_ONLY,
    DECODERS,
    LEAN,
    PLAIN,
    SCALES,
    data_tables,
    implementations,
    label_conversions,
    load_rate,
    loader_rate,
    round_keys,
)
from synthetic_images import write_pairs

from dl_lib.config import get_cfg
from dl_lib.data.reading import read_image, read_label
from dl_lib.data.samplers import SampleKey

SIZE = (64, 128)
NAMES = [PLAIN, LEAN, CROP_ONLY, "dl_lib, cv2", "dl_lib, pil", "dl_lib, cv2, memmap"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_pairs(tmp_path_factory.mktemp("images"), count=3, size=SIZE)


@pytest.fixture(scope="module")
def datasets(pairs):
    return implementations(pairs, size=SIZE, folder=pairs[0][0].parents[1], workers=0)


def test_all_implementations_make_the_same_samples(datasets):
    assert list(datasets) == NAMES
    mean = torch.tensor(get_cfg().MODEL.PIXEL_MEAN)[:, None, None]
    ignored = set()
    for epoch in range(12):
        for index in range(3):
            plain, lean, crop_only, *own = (dataset[SampleKey(epoch, index)] for dataset in datasets.values())
            assert all(torch.equal(plain[name], lean[name]) for name in plain)
            by_opencv, by_pillow, cached = (loaded.sample for loaded in own)
            assert torch.equal(by_pillow["image"] - mean, plain["image"])
            assert (crop_only["image"].int() - by_pillow["image"]).abs().max() <= 2
            # Pillow rounds either way where the center of a new pixel lies on the border between two old ones.
            for sample in (plain, crop_only):
                assert (by_pillow["sem_seg"] == sample["sem_seg"]).float().mean() > 0.97
            for sample in (by_opencv, cached):
                assert torch.equal(sample["sem_seg"], by_pillow["sem_seg"])
            assert torch.equal(by_opencv["image"], cached["image"])
            assert by_opencv["image"].shape == plain["image"].shape == (3, 48, 48)
            ignored.add(float((plain["sem_seg"] == 255).float().mean()))
    assert len(ignored) > 1  # some crops are larger than the image


def test_every_round_has_all_scales_and_no_round_repeats_another(datasets):
    plain = datasets[PLAIN]
    plain.pairs = plain.pairs * 4
    rounds = [round_keys(plain, number) for number in range(4)]
    for keys in rounds:
        assert [key.index for key in keys] == list(range(12))
        heights = [plain.draw(key)[0].height for key in keys]
        assert sorted(heights) == sorted(round(scale * SIZE[0]) for scale in SCALES * 2)
    assert len({key for keys in rounds for key in keys}) == 4 * 12
    plain.pairs = plain.pairs[:3]


def test_decoders_agree(pairs):
    expected = read_image(pairs[0][0])
    for decode in DECODERS.values():
        np.testing.assert_array_equal(decode(pairs[0][0]), expected)


def test_label_maps_agree(pairs):
    labels = [convert(SampleKey(0, 1)) for convert in label_conversions(pairs).values()]
    for label in labels:
        np.testing.assert_array_equal(label, read_label(pairs[1][1]))


def test_images_decode_like_photographs(tmp_path):
    """About 2 MB at this size, and nearly all rows Paeth-filtered (filter 4), as in PNGs of photographs."""
    ((image, label),) = write_pairs(tmp_path, count=1, size=(1024, 2048))
    assert read_image(image).shape == (1024, 2048, 3)
    assert 1.5e6 < image.stat().st_size < 2.5e6
    assert np.mean(row_filters(image) == 4) > 0.95
    assert set(np.unique(read_label(label))) == set(range(19))


def test_images_are_the_same_in_each_call(tmp_path, pairs):
    for one, other in zip(pairs, write_pairs(tmp_path, count=3, size=SIZE), strict=True):
        assert [path.read_bytes() for path in one] == [path.read_bytes() for path in other]


def row_filters(path):
    """Filter of each row: https://www.w3.org/TR/png-3/#9Filters."""
    content, start, packed = path.read_bytes(), 8, b""
    while start < len(content):
        (length,) = struct.unpack(">I", content[start : start + 4])
        if content[start + 4 : start + 8] == b"IDAT":
            packed += content[start + 8 : start + 8 + length]
        start += 12 + length
    return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(1024, -1)[:, 0]


class Busy:
    """Samples that take 20 ms of CPU time each."""

    def __getitem__(self, key):
        end = time.process_time() + 0.02
        while time.process_time() < end:
            pass
        return {}


def test_rates_are_those_of_the_samples(monkeypatch):
    monkeypatch.setattr(data, "LOADER_SECONDS", 0.3)
    rounds = [range(3)] * 2
    measures = [load_rate(Busy().__getitem__, rounds)]
    measures += [loader_rate(Busy(), rounds, workers=workers, sample_seconds=0.02) for workers in (0, 1)]
    for measure in measures:
        cpu_seconds, samples_per_second = measure()
        assert 0.015 < cpu_seconds < 0.2, "with the start of a worker process"
        assert 0 < samples_per_second < 1.2 / 0.02


def test_tables_in_closed_form():
    def rates(*cpu_seconds):
        return [(seconds, 1 / seconds) for seconds in cpu_seconds]

    loading = {LEAN: rates(0.5, 0.1, 0.3), CROP_ONLY: rates(0.5, 0.05, 0.15), "own": rates(0.1, 0.2, 0.15)}
    with_workers = {("own", 0): rates(0.25), ("own", 2): rates(0.125)}
    one_process, decoding, converting, loader = data_tables(
        loading, {"Pillow": rates(0.05)}, {"LABEL_MAP": rates(0.001)}, with_workers
    )
    assert [row[1:] for row in one_process.rows] == [
        (300.0, pytest.approx(1 / 0.3), 1.0, 0.5),
        (150.0, pytest.approx(1 / 0.15), 2.0, 1.0),
        (150.0, pytest.approx(1 / 0.15), 2.0, 1.0),
    ]
    assert (decoding.rows, converting.rows) == ([("Pillow", 50.0)], [("LABEL_MAP", 1.0)])
    assert loader.rows == [("own", 0, 4.0, 250.0), ("own", 2, 8.0, 125.0)]


def test_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(data, "LOADER_SECONDS", 0)
    words = ["--repeats", "1", "--images", "3", "--size", "64x128", "--workers", "0"]
    data.main([*words, "--output", str(tmp_path)])
    values = json.loads((tmp_path / "data.json").read_text())
    assert values["facts"]["images"].startswith("3 pairs of PNGs of 128x64 pixels")
    assert [row["implementation"] for row in values["tables"]["One process"]] == NAMES
    assert [row["implementation"] for row in values["tables"]["DataLoader"]] == NAMES
    assert [row["decoder"] for row in values["tables"]["Decoding only"]] == list(DECODERS)
    assert values["tables"]["Label maps and checksum only"][-1]["step"] == CHECKSUM
    for row in values["tables"]["One process"]:
        rates = values["samples"][f"loading {row['implementation']}"]
        assert row["CPU ms per sample"] == 1e3 * median(cpu_seconds for cpu_seconds, _ in rates) > 0
