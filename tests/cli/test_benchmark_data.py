"""The benchmark of loading: its ways make the same samples, and its tables are its figures."""

import json
import os
import statistics
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import PIL
import pytest
import torch

from dl_lib.benchmark import data_measure
from dl_lib.benchmark.data_measure import DataResults, Rate, measure_loading
from dl_lib.benchmark.data_paths import LEAN, PLAIN, decoders, loading_paths, round_keys
from dl_lib.benchmark.data_pictures import write_pairs
from dl_lib.benchmark.data_report import data_results_as_dict, format_data_markdown
from dl_lib.cli import benchmark_data
from dl_lib.config import get_cfg
from dl_lib.data.reading import read_image, read_label
from dl_lib.data.samplers import SampleKey

ROOT = Path(__file__).parents[2]
SIZE = (64, 128)
WAYS = [PLAIN, LEAN, "dl_lib, cv2", "dl_lib, pil", "dl_lib, cv2, memmap"]


def rows_of(markdown, *, heading):
    """The table under a heading, as dicts of text."""
    lines = [line for line in markdown.partition(heading)[2].partition("\n##")[0].splitlines() if line.startswith("|")]
    titles, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [dict(zip(titles, row, strict=True)) for row in rows]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    return folder, write_pairs(folder, count=3, size=SIZE)


def test_all_ways_make_the_same_samples(pairs):
    folder, written = pairs
    _, paths = loading_paths(written, size=SIZE, folder=folder)
    assert list(paths) == WAYS
    mean = torch.tensor(get_cfg().MODEL.PIXEL_MEAN)[:, None, None]
    sizes = set()
    for epoch in range(12):
        for index in range(3):
            plain, lean, *own = (dataset[SampleKey(epoch, index)] for dataset in paths.values())
            assert all(torch.equal(plain[name], lean[name]) for name in plain)
            by_opencv, by_pillow, cached = (loaded.sample for loaded in own)
            assert torch.equal(by_pillow["image"] - mean, plain["image"])
            # Pillow goes to either side where the centre of a new pixel falls on the edge between two old ones.
            assert (by_pillow["sem_seg"] == plain["sem_seg"]).float().mean() > 0.97
            for sample in (by_opencv, cached):
                assert torch.equal(sample["sem_seg"], by_pillow["sem_seg"])
            assert torch.equal(by_opencv["image"], cached["image"])
            assert by_opencv["image"].shape == plain["image"].shape == (3, 48, 48)
            sizes.add(float((plain["sem_seg"] == 255).float().mean()))
    assert len(sizes) > 1  # some crops are larger than the image


def test_every_round_has_all_scales_and_no_round_repeats_another(pairs):
    folder, written = pairs
    plain, _ = loading_paths(written * 4, size=SIZE, folder=folder)
    rounds = [round_keys(plain, number) for number in range(4)]
    for keys in rounds:
        assert [key.index for key in keys] == list(range(12))
        assert sorted(plain.draw(key)[0].height for key in keys) == sorted([32, 48, 64, 80, 96, 128] * 2)
    assert len({key for keys in rounds for key in keys}) == 48
    assert len({plain.draw(keys[0])[0].height for keys in rounds}) == 4  # a picture is not always of one scale


def test_all_decoders_give_the_same_pixels(pairs):
    _, (pair, *_) = pairs
    expected = read_image(pair.image)
    for decode in decoders().values():
        np.testing.assert_array_equal(decode(pair.image), expected)


def test_pictures_are_what_they_are_said_to_be(tmp_path):
    """Of about 2 MB at this size, and nearly all rows Paeth-filtered (filter 4), as in PNGs of photographs."""
    (pair,) = write_pairs(tmp_path, count=1, size=(1024, 2048))
    assert read_image(pair.image).shape == (1024, 2048, 3)
    assert 1.5e6 < pair.image.stat().st_size < 2.5e6
    assert np.mean(row_filters(pair.image) == 4) > 0.95
    assert set(np.unique(read_label(pair.label))) == set(range(19))


def test_pictures_are_the_same_each_time(tmp_path, pairs):
    for one, other in zip(pairs[1], write_pairs(tmp_path, count=3, size=SIZE), strict=True):
        assert one.image.read_bytes() == other.image.read_bytes()
        assert one.label.read_bytes() == other.label.read_bytes()


def row_filters(path):
    """The filter of each row: https://www.w3.org/TR/png-3/#9Filters."""
    data, place, packed = path.read_bytes(), 8, b""
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        if data[place + 4 : place + 8] == b"IDAT":
            packed += data[place + 8 : place + 8 + length]
        place += 12 + length
    return np.frombuffer(zlib.decompress(packed), np.uint8).reshape(1024, -1)[:, 0]


def test_a_whole_run(tmp_path):
    words = ["--output", "out", "--repeats", "1", "--images", "3", "--size", "64x128", "--workers", "0"]
    code = (
        "from dl_lib.benchmark import data_measure; data_measure._LOADER_SECONDS = 0; "
        f"from dl_lib.cli.benchmark_data import main; main({words!r})"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    torchs_own = ("-W", "ignore:Implicitly cleaning up:ResourceWarning")  # torch 2.6 leaves a folder until its end
    command = [sys.executable, "-W", "error", *torchs_own, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    markdown = (tmp_path / "out" / "benchmark_data.md").read_text()
    assert done.stdout.startswith(markdown)
    for fact in (
        "- CPU: ",
        f"- opencv: {cv2.__version__}",
        f"- Pillow: {PIL.__version__}",
        "3 pairs of PNGs of 128x64",
    ):
        assert fact in markdown
    report = json.loads((tmp_path / "out" / "benchmark_data.json").read_text())
    assert list(report["loading"]) == list(report["with_workers"]) == WAYS
    for row in rows_of(markdown, heading="## One process"):
        values = report["loading"][row["way"]]
        assert values["cpu_seconds"]["median"] == statistics.median(values["cpu_seconds"]["all"]) > 0
        assert row["CPU ms per sample"] == f"{1e3 * values['cpu_seconds']['median']:.2f}"
        assert row["ratio"] == f"{values['ratio']:.2f}"
    assert [row["decoder"] for row in rows_of(markdown, heading="## Decoding alone")] == list(decoders())
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_rates_and_rows_in_closed_form():
    def rate(*cpu_seconds):
        return Rate(cpu_seconds, tuple(1 / seconds for seconds in cpu_seconds))

    results = DataResults(
        size=(10, 20),
        pictures=2,
        image_bytes=2.5e6,
        label_bytes=4000,
        loading={PLAIN: rate(0.5, 0.1, 0.3), "own": rate(0.1, 0.2, 0.15)},
        decoding={"Pillow": rate(0.05)},
        with_workers={"own": {0: rate(0.25), 2: rate(0.125)}},
    )
    values = data_results_as_dict(results, machine={"CPU": "one"})
    assert values["loading"]["own"]["ratio"] == 2.0
    assert values["with_workers"]["own"]["2"]["samples_per_second"] == {"median": 8.0, "all": [8.0]}
    markdown = format_data_markdown(results, machine={"CPU": "one"})
    assert "images of 2.50 MB, labels of 4 kB" in markdown
    plain, own = rows_of(markdown, heading="## One process")
    assert list(plain.values()) == [PLAIN, "300.00", "3.3", "1.00"]
    assert list(own.values()) == ["own", "150.00", "6.7", "2.00"]
    assert [list(row.values()) for row in rows_of(markdown, heading="## Through a loader")] == [
        ["own", "0", "4.0", "250.00"],
        ["own", "2", "8.0", "125.00"],
    ]


class Busy:
    """Samples that each take 20 ms of the CPU."""

    def __len__(self):
        return 3

    def __getitem__(self, key):
        end = data_measure.time.process_time() + 0.02
        while data_measure.time.process_time() < end:
            pass
        return {}


@pytest.mark.parametrize("workers", [[0], [0, 1]])
def test_what_is_measured_is_what_a_sample_takes(monkeypatch, workers):
    monkeypatch.setattr(data_measure, "loading_paths", lambda *_, **__: (Busy(), {"busy": Busy()}))
    monkeypatch.setattr(data_measure, "round_keys", lambda *_: range(3))
    monkeypatch.setattr(data_measure, "_LOADER_SECONDS", 0.3)
    results = measure_loading(size=SIZE, pictures=3, repeats=1, workers=workers)
    assert results.loading["busy"].median_cpu_seconds == pytest.approx(0.02, rel=0.2)
    for rate in results.with_workers["busy"].values():
        assert 0.018 < rate.median_cpu_seconds < 0.05  # a process has to be started too
        assert rate.median_samples_per_second < 60


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "0,x"], "expected whole numbers from 0, such as 0,1,2. Received: 0,x"),
        (["--images", "0"], "expected a whole number from 1. Received: 0"),
        (["--size", "64x128,64x64"], "all pictures have one size"),
    ],
)
def test_mistakes_are_answered_in_words(words, message, capsys):
    with pytest.raises(SystemExit) as caught:
        benchmark_data.main(words)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_help_does_not_wait_for_torch(tmp_path):
    (tmp_path / "torch.py").write_text("raise AssertionError('torch was imported')\n")
    command = [sys.executable, str(ROOT / "tools" / "benchmark_data.py"), "--help"]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: benchmark_data.py ")
