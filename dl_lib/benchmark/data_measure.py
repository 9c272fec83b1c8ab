"""Measuring what samples cost: CPU seconds in one process, and samples per second from several."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from dl_lib.benchmark.data_paths import decoders, loading_paths, round_keys
from dl_lib.benchmark.data_pictures import PicturePair, write_pairs
from dl_lib.data.samplers import SampleKey
from dl_lib.utils.progress import progress_bar

__all__ = ["DataResults", "Rate", "measure_loading"]

WARM_UP_ROUNDS = 1
_LOADER_SECONDS = 2.0
_WARM_UP_SAMPLES = 4  # of a loader with workers: while they start, its queue fills


@dataclass(frozen=True)
class Rate:
    """Attributes: of each round, `cpu_seconds` for one sample, over all processes; `samples_per_second` of time."""

    cpu_seconds: tuple[float, ...]
    samples_per_second: tuple[float, ...]

    @property
    def median_cpu_seconds(self) -> float:
        return median(self.cpu_seconds)

    @property
    def median_samples_per_second(self) -> float:
        return median(self.samples_per_second)


@dataclass(frozen=True)
class DataResults:
    """What was measured, and on what.

    Attributes:
        size: (height, width) of the images.
        pictures: how many pairs there were.
        image_bytes: mean size of an image file.
        label_bytes: mean size of a label file.
        loading: by the way of loading; in one process, the sample of a key at a time.
        decoding: by decoder; of the image file alone.
        with_workers: by the way of loading and the number of processes that load; 0 is the loader's own process.
    """

    size: tuple[int, int]
    pictures: int
    image_bytes: float
    label_bytes: float
    loading: Mapping[str, Rate]
    decoding: Mapping[str, Rate]
    with_workers: Mapping[str, Mapping[int, Rate]]


def measure_loading(*, size: tuple[int, int], pictures: int, repeats: int, workers: Sequence[int]) -> DataResults:
    """Writes pictures into a folder that goes away again, and loads them in all ways, in turn, round after round.

    Args:
        size: (height, width) of the images.
        pictures: how many; each is loaded once in a round.
        repeats: timed rounds, after one without time.
        workers: numbers of processes to load with.
    """
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="dl_lib_benchmark_") as name:
        folder = Path(name)
        pairs = write_pairs(folder, count=pictures, size=size)
        plain, paths = loading_paths(pairs, size=size, folder=folder)
        keys = [round_keys(plain, number) for number in range(WARM_UP_ROUNDS + repeats)]
        calls = {path: _loads(dataset, keys) for path, dataset in paths.items()}
        reads = {decoder: _reads(decode, pairs) for decoder, decode in decoders().items()}
        steps = (len(calls) + len(reads) + len(paths) * len(workers)) * len(keys)
        with progress_bar(steps, description="benchmark", unit="step") as bar:
            loading = _take_turns(calls, count=pictures, rounds=len(keys), bar=bar)
            return DataResults(
                size=size,
                pictures=pictures,
                image_bytes=sum(pair.image.stat().st_size for pair in pairs) / pictures,
                label_bytes=sum(pair.label.stat().st_size for pair in pairs) / pictures,
                loading=loading,
                decoding=_take_turns(reads, count=pictures, rounds=len(keys), bar=bar),
                with_workers=_with_workers(paths, loading, keys=keys, workers=workers, bar=bar),
            )


def _loads(dataset: Dataset, keys: Sequence[Sequence[SampleKey]]) -> Callable[[int], None]:
    def load(round_number: int) -> None:
        for key in keys[round_number]:
            dataset[key]

    return load


def _reads(decode: Callable[[Path], object], pairs: Iterable[PicturePair]) -> Callable[[int], None]:
    def read(round_number: int) -> None:
        for pair in pairs:
            decode(pair.image)

    return read


def _take_turns(calls: Mapping[str, Callable[[int], None]], *, count: int, rounds: int, bar: tqdm) -> dict[str, Rate]:
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for round_number in range(rounds):
        for name, call in calls.items():
            cpu_seconds, seconds = time.process_time(), time.perf_counter()
            call(round_number)
            cpu_seconds, seconds = time.process_time() - cpu_seconds, time.perf_counter() - seconds
            measured[name].append((cpu_seconds / count, count / seconds))
            bar.update()
    return {name: _rate(rates) for name, rates in measured.items()}


def _with_workers(
    paths: Mapping[str, Dataset],
    loading: Mapping[str, Rate],
    *,
    keys: Sequence[Sequence[SampleKey]],
    workers: Sequence[int],
    bar: tqdm,
) -> dict[str, dict[int, Rate]]:
    """The keys of a round, again and again for so long that starting other processes is little beside it."""
    measured: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for one_round in keys:
        for name, dataset in paths.items():
            passes = math.ceil(_LOADER_SECONDS / (loading[name].median_cpu_seconds * len(one_round)))
            for number in workers:
                rate = _load_all(dataset, [*one_round] * max(2, passes), workers=number)
                measured.setdefault((name, number), []).append(rate)
                bar.update()
    return {name: {number: _rate(measured[name, number]) for number in workers} for name in paths}


def _load_all(dataset: Dataset, keys: Sequence[SampleKey], *, workers: int) -> tuple[float, float]:
    """CPU seconds for one sample, those of processes that load included; samples per second once they have started."""
    cpu_seconds = _cpu_seconds()
    loader = DataLoader(
        dataset, batch_size=1, sampler=keys, num_workers=workers, collate_fn=_as_it_is, worker_init_fn=_set_up_worker
    )
    arrivals = [time.perf_counter() for _ in loader]
    seconds = arrivals[-1] - arrivals[_WARM_UP_SAMPLES - 1]
    return (_cpu_seconds() - cpu_seconds) / len(keys), (len(keys) - _WARM_UP_SAMPLES) / seconds


def _cpu_seconds() -> float:
    """Of this process and of those that it started and that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _as_it_is(samples: list[Any]) -> list[Any]:
    return samples


def _set_up_worker(worker: int) -> None:
    cv2.setNumThreads(1)


def _rate(rounds: Sequence[tuple[float, float]]) -> Rate:
    cpu_seconds, samples_per_second = zip(*rounds[WARM_UP_ROUNDS:], strict=True)
    return Rate(cpu_seconds, samples_per_second)
