"""Cost of loading a training sample of the published recipe, compared with a plain implementation in Pillow.

Run `python tools/benchmarks/data.py --help`.
"""

from __future__ import annotations

import itertools
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, cast

import cv2
import kornia_rs
import numpy as np
import PIL
import torch
from harness import benchmark_parser, interleave, start
from PIL import Image
from pillow_samples import CropOnlySamples, LeanSamples, PlainSamples, Size
from report import Report, Table, describe_machine
from synthetic_images import NUM_CLASSES, Pair, write_pairs
from torch.utils.data import DataLoader

from dl_lib.cli.arg_types import comma_separated_ints, comma_separated_sizes, positive_int
from dl_lib.cli.errors import user_errors
from dl_lib.config import get_cfg
from dl_lib.data import register_folder_sem_seg
from dl_lib.data.build import build_train_loader
from dl_lib.data.cache_file import checksum
from dl_lib.data.catalog import voc_colormap
from dl_lib.data.label_map import LabelClasses
from dl_lib.data.raw_dataset import RawSample
from dl_lib.data.reading import read_image, read_label
from dl_lib.data.samplers import SampleKey

PLAIN, LEAN, CROP_ONLY = "Pillow, plain", "Pillow, lean", "Pillow, crop only"
BASELINES = {"ratio to lean": LEAN, "ratio to crop only": CROP_ONLY}
CHECKSUM = "checksum of a cached sample"
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)  # of the published recipe, relative to the image's height
CROP = 0.75  # of the published recipe, relative to the image's height
EPOCHS_PER_ROUND = 1000  # more than are needed to draw every scale
WARMUP_ROUNDS = 1
LOADER_SECONDS = 2.0  # of a measurement with workers, so that their start is negligible
LOADER_WARMUP_SAMPLES = 4  # while workers start, the queue fills
NOTES = """\
Medians of {rounds} rounds in which all implementations load the same samples, interleaved; files and cache are in \
memory after the first. Plain: as in Detectron2 and the published code: decode to a BGR array, resize and flip the \
whole image, crop, each from array to array, and normalize on the CPU. Lean: the same with Pillow images up to the \
crop. Crop only: as lean, but only the pixels of the crop are resized, and returned as uint8 like the library's. The \
others are the library's, with the settings named. Ratios: samples per CPU second relative to lean and to crop only, \
medians of the rounds."""

VERSIONS = {"opencv": cv2.__version__, "Pillow": PIL.__version__, "kornia_rs": kornia_rs.__version__}

Rate = tuple[float, float]  # CPU seconds per sample over all processes, samples per second of elapsed time
Rates = Mapping[Any, Sequence[Rate]]


DECODERS: Mapping[str, Callable[[Path], object]] = {
    "Pillow": lambda path: np.asarray(Image.open(path)),
    "opencv": lambda path: cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB),
    "dl_lib": read_image,
}


def implementations(pairs: Sequence[Pair], *, size: Size, folder: Path, workers: int) -> dict[str, Any]:
    """Return all implementations by name, indexed by `SampleKey`, for files in `images` and `labels` of a folder."""
    name = f"benchmark in {folder.absolute().name}"
    paths = {kind: (folder / kind).absolute() for kind in ("images", "labels")}
    register_folder_sem_seg(name, **paths, classes=[f"class {number}" for number in range(NUM_CLASSES)])
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = [name]
    cfg.DATALOADER.NUM_WORKERS = workers
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = NUM_CLASSES
    cfg.INPUT.MIN_SIZE_TRAIN = [round(scale * size[0]) for scale in SCALES]
    cfg.INPUT.MAX_SIZE_TRAIN = 2 * max(size)
    cfg.INPUT.CROP_SIZE = [round(CROP * size[0])] * 2
    with_pillow = {PLAIN: PlainSamples, LEAN: LeanSamples, CROP_ONLY: CropOnlySamples}
    datasets: dict[str, Any] = {name: samples(cfg, pairs, size=size) for name, samples in with_pillow.items()}
    for name, values in {
        "dl_lib, cv2": {"INPUT.BACKEND": "cv2"},
        "dl_lib, pil": {"INPUT.BACKEND": "pil"},
        "dl_lib, cv2, memmap": {"DATALOADER.CACHE": "memmap", "DATALOADER.CACHE_DIR": str(folder / "cache")},
    }.items():
        datasets[name] = build_train_loader(cfg.with_values(values)).loader.dataset
    return datasets


def label_conversions(pairs: Sequence[Pair]) -> dict[str, Callable[[SampleKey], object]]:
    """Return functions that convert the label of a sample, which is already in memory, by name of the setting."""
    labels = [np.asarray(Image.open(label)) for _, label in pairs]
    classes = LabelClasses(tuple(f"class {number}" for number in range(NUM_CLASSES)), ignore_value=255)
    colors = np.array(voc_colormap(NUM_CLASSES), np.uint8)
    by_id = classes.id_reader({number: number for number in range(NUM_CLASSES)})
    wide = classes.id_reader({1000 * number: number for number in range(NUM_CLASSES)})
    by_color = classes.color_reader(voc_colormap(NUM_CLASSES))
    variants = {
        "LABEL_MAP, 8 bits": (by_id, labels),
        "LABEL_MAP, 16 bits": (wide, [label.astype(np.uint16) * 1000 for label in labels]),
        "COLOR_MAP": (by_color, [colors[label] for label in labels]),
    }
    return {
        name: lambda key, reader=reader, arrays=arrays: reader.convert(arrays[key.index], path="")
        for name, (reader, arrays) in variants.items()
    }


def round_keys(plain: PlainSamples, round_number: int) -> list[SampleKey]:
    """Return one key per image, different in each round; all scales are equally frequent."""
    keys = []
    for index in range(len(plain.pairs)):
        height = round(SCALES[(index + round_number) % len(SCALES)] * plain.size[0])
        candidates = (SampleKey(epoch, index) for epoch in itertools.count(round_number * EPOCHS_PER_ROUND))
        keys.append(next(key for key in candidates if plain.draw(key)[0].height == height))
    return keys


def load_rate(load: Callable[[SampleKey], object], rounds: Sequence[Sequence[SampleKey]]) -> Callable[[], Rate]:
    """Return a function that loads the samples of the next round, one by one in this process."""
    remaining = iter(rounds)

    def measure() -> Rate:
        keys = next(remaining)
        cpu_seconds, seconds = time.process_time(), time.perf_counter()
        for key in keys:
            load(key)
        cpu_seconds, seconds = time.process_time() - cpu_seconds, time.perf_counter() - seconds
        return cpu_seconds / len(keys), len(keys) / seconds

    return measure


def loader_rate(
    dataset: Any, rounds: Sequence[Sequence[SampleKey]], *, workers: int, sample_seconds: float
) -> Callable[[], Rate]:
    """Return a function that loads the samples of the next round through a `DataLoader`, for about `LOADER_SECONDS`."""
    remaining = iter(rounds)

    def measure() -> Rate:
        keys = next(remaining)
        keys = [*keys] * max(2, math.ceil(LOADER_SECONDS / (sample_seconds * len(keys))))
        cpu_seconds = _cpu_seconds()
        context = "fork" if workers else None  # worker processes inherit the single thread of opencv
        options = {"num_workers": workers, "collate_fn": list, "multiprocessing_context": context}
        loader = DataLoader(dataset, batch_size=1, sampler=keys, **options)
        arrivals = [time.perf_counter() for _ in loader]
        seconds = arrivals[-1] - arrivals[LOADER_WARMUP_SAMPLES - 1]
        return (_cpu_seconds() - cpu_seconds) / len(keys), (len(keys) - LOADER_WARMUP_SAMPLES) / seconds

    return measure


def _cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its child processes that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def measure(folder: Path, *, size: Size, images: int, rounds: int, workers: Sequence[int]) -> tuple[str, list[Rates]]:
    """Write images to a folder and load them with all implementations.

    Returns:
        A description of the images, and the rates of loading, of decoding, of converting labels and checksums, and by
        (implementation, workers).
    """
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    pairs = write_pairs(folder, count=images, size=size)
    datasets = implementations(pairs, size=size, folder=folder, workers=max(workers))
    keys = [round_keys(datasets[PLAIN], number) for number in range(WARMUP_ROUNDS + rounds)]
    loads = {name: load_rate(dataset.__getitem__, keys) for name, dataset in datasets.items()}
    decodes = {
        name: load_rate(lambda key, decode=decode: decode(pairs[key.index][0]), keys)
        for name, decode in DECODERS.items()
    }
    samples = [cast(RawSample, {"image": read_image(image), "sem_seg": read_label(label)}) for image, label in pairs]
    steps = {**label_conversions(pairs), CHECKSUM: lambda key: checksum(samples[key.index])}
    converts = {name: load_rate(step, keys) for name, step in steps.items()}
    loading, decoding, converting = (
        interleave(calls, rounds=rounds, warmup=WARMUP_ROUNDS) for calls in (loads, decodes, converts)
    )
    loaders = {
        (name, number): loader_rate(dataset, keys, workers=number, sample_seconds=medians(loading[name])[0])
        for name, dataset in datasets.items()
        for number in workers
    }
    with_workers = interleave(loaders, rounds=rounds, warmup=WARMUP_ROUNDS)
    image_mb, label_mb = (
        sum(path.stat().st_size for path in paths) / images / 1e6 for paths in zip(*pairs, strict=True)
    )
    description = (
        f"{images} pairs of PNGs of {size[1]}x{size[0]} pixels, images of {image_mb:.2f} MB, labels of "
        f"{1e3 * label_mb:.0f} kB; scales {', '.join(f'{scale:g}' for scale in SCALES)}, equally frequent"
    )
    return description, [loading, decoding, converting, with_workers]


def medians(rates: Sequence[Rate]) -> Rate:
    """Return the medians of CPU seconds and of samples per second."""
    cpu_seconds, samples_per_second = zip(*rates, strict=True)
    return median(cpu_seconds), median(samples_per_second)


def data_tables(loading: Rates, decoding: Rates, converting: Rates, with_workers: Rates) -> list[Table]:
    """Return tables of CPU time in one process, of decoding and other steps alone, and of throughput with workers.

    A ratio is the median of the rounds' ratios: all implementations load the same samples in a round.
    """
    one_process, loader = [], []
    for name, rates in loading.items():
        ratios = (
            median(theirs / own for (theirs, _), (own, _) in zip(loading[baseline], rates, strict=True))
            for baseline in BASELINES.values()
        )
        cpu_seconds, _ = medians(rates)
        one_process.append((name, 1e3 * cpu_seconds, 1 / cpu_seconds, *ratios))
    only_decoding, only_converting = (
        [(name, 1e3 * medians(rates)[0]) for name, rates in own.items()] for own in (decoding, converting)
    )
    for (name, workers), rates in with_workers.items():
        cpu_seconds, samples_per_second = medians(rates)
        loader.append((name, workers, samples_per_second, 1e3 * cpu_seconds))
    name, cpu, ratios = {"implementation": ""}, {"CPU ms per sample": ".2f"}, dict.fromkeys(BASELINES, ".2f")
    return [
        Table("One process", {**name, **cpu, "samples per CPU s": ".1f", **ratios}, one_process),
        Table("Decoding only", {"decoder": "", "CPU ms per image": ".2f"}, only_decoding),
        Table("Label maps and checksum only", {"step": "", **cpu}, only_converting),
        Table("DataLoader", {**name, "workers": "d", "samples per s": ".1f", **cpu}, loader),
    ]


def main(argv: Sequence[str] | None = None) -> None:
    parser = benchmark_parser("data.py", description="Measure the cost of loading training samples.", repeats=5)
    add = parser.add_argument
    add("--images", type=positive_int, default=12, metavar="N", help="(default: %(default)s)")
    add("--size", type=comma_separated_sizes, default="1024x2048", metavar="HxW", help="(default: %(default)s)")
    add("--workers", type=comma_separated_ints, default="0,1,2", metavar="N,N", help="processes (default: %(default)s)")
    arguments = parser.parse_args(argv)
    arguments.device = "cpu"
    size, images, rounds, workers = arguments.size[0], arguments.images, arguments.repeats, arguments.workers
    with user_errors(parser.prog), tempfile.TemporaryDirectory(prefix="dl_lib_benchmark_") as folder:
        settings = start(arguments)
        description, rates = measure(Path(folder), size=size, images=images, rounds=rounds, workers=workers)
    facts = {**describe_machine(settings), **VERSIONS, "images": description}
    kinds = ("loading", "decoding", "step", "workers")
    samples = {f"{kind} {key}": values for kind, own in zip(kinds, rates, strict=True) for key, values in own.items()}
    report = Report("Data loading", facts, NOTES.format(rounds=rounds), data_tables(*rates), samples)
    report.write(arguments.output, "data", document=arguments.document)


if __name__ == "__main__":
    main()
