"""Cost of loading a training sample of the published recipe, compared with a plain implementation in Pillow.

python tools/benchmarks/data.py
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
from typing import Any

import cv2
import numpy as np
import PIL
import torch
from harness import benchmark_parser, interleave, start
from PIL import Image
from report import Report, Table, describe_machine
from synthetic_images import NUM_CLASSES, Pair, write_pairs
from torch.utils.data import DataLoader, Dataset

from dl_lib.cli.arg_types import comma_separated_ints, comma_separated_sizes, positive_int
from dl_lib.cli.errors import user_errors
from dl_lib.config import CfgNode, get_cfg
from dl_lib.data.build import build_train_augmentations, build_train_loader
from dl_lib.data.catalog import DatasetCatalog
from dl_lib.data.datasets.folder import FolderSource
from dl_lib.data.reading import read_image
from dl_lib.data.samplers import SampleKey
from dl_lib.data.transforms import CropPad, HorizontalFlip, Resize, sample_transforms

PLAIN, LEAN = "Pillow, plain", "Pillow, lean"
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0)  # of the published recipe, relative to the image's height
CROP = 0.75  # likewise
EPOCHS_PER_ROUND = 1000  # more than are needed to draw every scale
WARMUP_ROUNDS = 1
LOADER_SECONDS = 2.0  # of a measurement with workers, so that their start is negligible
LOADER_WARMUP_SAMPLES = 4  # while workers start, the queue fills

Size = tuple[int, int]
Rate = tuple[float, float]  # CPU seconds per sample over all processes, samples per second of elapsed time
NOTES = """\
Medians of {rounds} rounds in which all implementations load the same samples, interleaved; files and cache are in \
memory after the first. Plain: as in Detectron2 and the published code: decode to a BGR array, resize and flip the \
whole image, crop, each from array to array, and normalize on the CPU. Lean: the same with Pillow images up to the \
crop. The others are the library's, with the settings named. Ratio: samples per CPU second relative to plain, \
median of the rounds."""


class PlainSamples(Dataset):
    """Samples made with Pillow and NumPy as in Detectron2: resize, flip and crop from array to array, normalize.

    It draws the same transforms as the library for the same key, so that both make the same sample.

    Args:
        cfg: Configuration of the augmentations.
        pairs: Image and label files.
        size: (height, width) of the images in pixels.
    """

    def __init__(self, cfg: CfgNode, pairs: Sequence[Pair], *, size: Size) -> None:
        self.pairs = pairs
        self.size = size
        self.augmentations = build_train_augmentations(cfg)
        self.pixel_mean = np.array(cfg.MODEL.PIXEL_MEAN, np.float32)
        self.seed = cfg.SEED

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        image, label = self._augmented(self.pairs[key.index], *self.draw(key))
        pixels = image.astype(np.float32) - self.pixel_mean
        return {
            "image": torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))),
            "sem_seg": torch.from_numpy(label.astype(np.int64)),
        }

    def draw(self, key: SampleKey) -> tuple[Resize, HorizontalFlip, CropPad]:
        """Return the transforms of a sample."""
        rng = np.random.default_rng([self.seed, key.epoch, key.index])
        resize, flip, crop = sample_transforms(self.augmentations, rng=rng, size=self.size)
        assert isinstance(resize, Resize) and isinstance(flip, HorizontalFlip) and isinstance(crop, CropPad)
        return resize, flip, crop

    def _augmented(self, pair: Pair, resize: Resize, flip: HorizontalFlip, crop: CropPad) -> list[np.ndarray]:
        """Return the image in BGR order, and the label."""
        image = np.asarray(Image.open(pair.image).convert("RGB"))[..., ::-1]
        label = np.asarray(Image.open(pair.label))
        size = (resize.width, resize.height)
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
        label = np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))
        if flip.flipped:
            image, label = image[:, ::-1], label[:, ::-1]
        return [crop.apply_image(image), crop.apply_label(label)]


class LeanSamples(PlainSamples):
    """The same with Pillow images up to the crop, as in torchvision's transforms; only the crop becomes an array."""

    def _augmented(self, pair: Pair, resize: Resize, flip: HorizontalFlip, crop: CropPad) -> list[np.ndarray]:
        image: Image.Image = Image.open(pair.image).convert("RGB")
        label: Image.Image = Image.open(pair.label)
        size = (resize.width, resize.height)
        image, label = image.resize(size, Image.Resampling.BILINEAR), label.resize(size, Image.Resampling.NEAREST)
        if flip.flipped:
            image, label = (one.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for one in (image, label))
        box = (crop.columns.start, crop.rows.start, crop.columns.stop, crop.rows.stop)
        window = np.asarray(image.crop(box))[..., ::-1]
        return [crop.pad_image(window), crop.pad_label(np.asarray(label.crop(box)))]


def implementations(pairs: Sequence[Pair], *, size: Size, folder: Path, workers: int) -> dict[str, Any]:
    """Return all implementations by name; each is a data set indexed by `SampleKey`.

    Args:
        pairs: Files in the folders `images` and `labels` below `folder`.
        size: (height, width) of the images in pixels, which scales and crop are relative to.
        folder: Folder of the files, and of the cache that is built.
        workers: Most worker processes that will load.
    """
    cfg = _config(size, folder)
    settings = {
        "dl_lib, cv2": ["INPUT.BACKEND", "cv2"],
        "dl_lib, pil": ["INPUT.BACKEND", "pil"],
        "dl_lib, cv2, memmap": ["DATALOADER.CACHE", "memmap", "DATALOADER.CACHE_DIR", str(folder / "cache")],
    }
    datasets: dict[str, Any] = {PLAIN: PlainSamples(cfg, pairs, size=size), LEAN: LeanSamples(cfg, pairs, size=size)}
    for name, opts in settings.items():
        own = cfg.clone()
        own.merge_from_list(["DATALOADER.NUM_WORKERS", workers, *opts])
        datasets[name] = build_train_loader(own).loader.dataset
    return datasets


def _config(size: Size, folder: Path) -> CfgNode:
    """Return the published recipe scaled to the size, with the folder as training set."""
    source = FolderSource(
        images=str((folder / "images").absolute()),
        labels=str((folder / "labels").absolute()),
        classes=tuple(f"class {number}" for number in range(NUM_CLASSES)),
    )
    name = f"benchmark in {folder.absolute()}"
    DatasetCatalog.register(name, source, source.meta)
    cfg = get_cfg()
    cfg.DATASETS.TRAIN = [name]
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = NUM_CLASSES
    cfg.INPUT.MIN_SIZE_TRAIN = [round(scale * size[0]) for scale in SCALES]
    cfg.INPUT.MAX_SIZE_TRAIN = 2 * max(size)
    cfg.INPUT.CROP_SIZE = [round(CROP * size[0])] * 2
    return cfg


def round_keys(plain: PlainSamples, round_number: int) -> list[SampleKey]:
    """Return one key per image, different in each round, such that all scales are equally frequent."""
    keys = []
    for index in range(len(plain)):
        height = round(SCALES[(index + round_number) % len(SCALES)] * plain.size[0])
        candidates = (SampleKey(epoch, index) for epoch in itertools.count(round_number * EPOCHS_PER_ROUND))
        keys.append(next(key for key in candidates if plain.draw(key)[0].height == height))
    return keys


def decoders() -> dict[str, Callable[[Path], object]]:
    """Return functions that decode an image file, by name."""
    return {
        "Pillow": lambda path: np.asarray(Image.open(path)),
        "opencv": lambda path: cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR_RGB),
        "dl_lib": read_image,
    }


def load_rate(dataset: Any, rounds: Sequence[Sequence[SampleKey]]) -> Callable[[], Rate]:
    """Return a function that loads the samples of the next round, one by one in this process."""
    remaining = iter(rounds)

    def measure() -> Rate:
        keys = next(remaining)
        cpu_seconds, seconds = time.process_time(), time.perf_counter()
        for key in keys:
            dataset[key]
        cpu_seconds, seconds = time.process_time() - cpu_seconds, time.perf_counter() - seconds
        return cpu_seconds / len(keys), len(keys) / seconds

    return measure


def loader_rate(
    dataset: Any, rounds: Sequence[Sequence[SampleKey]], *, workers: int, sample_seconds: float
) -> Callable[[], Rate]:
    """Return a function that loads the samples of the next round repeatedly through a `DataLoader`.

    Args:
        dataset: Data set indexed by keys.
        rounds: Keys of each round.
        workers: Worker processes; with 0 the calling process loads.
        sample_seconds: Estimated CPU seconds of a sample, for the number of repetitions.
    """
    remaining = iter(rounds)

    def measure() -> Rate:
        keys = next(remaining)
        keys = [*keys] * max(2, math.ceil(LOADER_SECONDS / (sample_seconds * len(keys))))
        cpu_seconds = _cpu_seconds()
        loader = DataLoader(
            dataset, batch_size=1, sampler=keys, num_workers=workers, collate_fn=list, worker_init_fn=_set_up_worker
        )
        arrivals = [time.perf_counter() for _ in loader]
        seconds = arrivals[-1] - arrivals[LOADER_WARMUP_SAMPLES - 1]
        return (_cpu_seconds() - cpu_seconds) / len(keys), (len(keys) - LOADER_WARMUP_SAMPLES) / seconds

    return measure


def _cpu_seconds() -> float:
    """Return the CPU seconds of this process and of its child processes that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _set_up_worker(worker: int) -> None:
    cv2.setNumThreads(1)


def measure(*, size: Size, images: int, rounds: int, workers: Sequence[int]) -> Report:
    """Write images to a temporary folder and load them with all implementations.

    Args:
        size: (height, width) of the images.
        images: Number of images; each is loaded once per round.
        rounds: Timed rounds.
        workers: Numbers of worker processes.
    """
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="dl_lib_benchmark_") as name:
        folder = Path(name)
        pairs = write_pairs(folder, count=images, size=size)
        datasets = implementations(pairs, size=size, folder=folder, workers=max(workers))
        keys = [round_keys(datasets[PLAIN], number) for number in range(WARMUP_ROUNDS + rounds)]
        loading = interleave(
            {name: load_rate(dataset, keys) for name, dataset in datasets.items()}, rounds=rounds, warmup=WARMUP_ROUNDS
        )
        files = {name: _DecodedFiles(decode, pairs) for name, decode in decoders().items()}
        decoding = interleave(
            {name: load_rate(dataset, keys) for name, dataset in files.items()}, rounds=rounds, warmup=WARMUP_ROUNDS
        )
        loaders = {
            (name, number): loader_rate(dataset, keys, workers=number, sample_seconds=_median(loading[name])[0])
            for name, dataset in datasets.items()
            for number in workers
        }
        with_workers = interleave(loaders, rounds=rounds, warmup=WARMUP_ROUNDS)
        megabytes, kilobytes = (
            sum(path.stat().st_size for path in paths) / images / unit
            for paths, unit in (([pair.image for pair in pairs], 1e6), ([pair.label for pair in pairs], 1e3))
        )
    facts = {**describe_machine("cpu"), "opencv": cv2.__version__, "Pillow": PIL.__version__}
    facts["images"] = (
        f"{images} pairs of PNGs of {size[1]}x{size[0]} pixels, images of {megabytes:.2f} MB, labels of "
        f"{kilobytes:.0f} kB; scales {', '.join(f'{scale:g}' for scale in SCALES)}, equally frequent"
    )
    tables = [loading_table(loading), decoding_table(decoding), workers_table(with_workers)]
    samples = {f"loading/{name}": rates for name, rates in loading.items()}
    samples |= {f"decoding/{name}": rates for name, rates in decoding.items()}
    samples |= {f"workers/{number}/{name}": rates for (name, number), rates in with_workers.items()}
    return Report("Data loading", facts, NOTES.format(rounds=rounds), tables, samples)


class _DecodedFiles:
    """Image files, decoded when indexed."""

    def __init__(self, decode: Callable[[Path], object], pairs: Sequence[Pair]) -> None:
        self.decode = decode
        self.pairs = pairs

    def __getitem__(self, key: SampleKey) -> object:
        return self.decode(self.pairs[key.index].image)


Rates = Mapping[Any, Sequence[Rate]]


def _median(rates: Sequence[Rate]) -> Rate:
    cpu_seconds, samples_per_second = zip(*rates, strict=True)
    return median(cpu_seconds), median(samples_per_second)


def loading_table(loading: Rates) -> Table:
    """Return CPU time per sample in one process; the ratio is the median of the rounds' ratios to plain."""
    rows = []
    for name, rates in loading.items():
        ratio = median(plain / own for (plain, _), (own, _) in zip(loading[PLAIN], rates, strict=True))
        cpu_seconds = _median(rates)[0]
        rows.append((name, 1e3 * cpu_seconds, 1 / cpu_seconds, ratio))
    columns = {"implementation": "", "CPU ms per sample": ".2f", "samples per CPU s": ".1f", "ratio": ".2f"}
    return Table("One process", columns, rows)


def decoding_table(decoding: Rates) -> Table:
    """Return CPU time per image of the decoders."""
    rows = [(name, 1e3 * _median(rates)[0]) for name, rates in decoding.items()]
    return Table("Decoding only", {"decoder": "", "CPU ms per image": ".2f"}, rows)


def workers_table(with_workers: Rates) -> Table:
    """Return throughput and CPU time per sample, by implementation and number of worker processes."""
    rows = []
    for (name, number), rates in with_workers.items():
        cpu_seconds, samples_per_second = _median(rates)
        rows.append((name, number, samples_per_second, 1e3 * cpu_seconds))
    columns = {"implementation": "", "workers": "d", "samples per s": ".1f", "CPU ms per sample": ".2f"}
    return Table("DataLoader", columns, rows)


def main(argv: Sequence[str] | None = None) -> None:
    parser = benchmark_parser("data.py", description="Measure the cost of loading training samples.", repeats=5)
    add = parser.add_argument
    add("--images", type=positive_int, default=12, metavar="N", help="(default: %(default)s)")
    add("--size", type=comma_separated_sizes, default="1024x2048", metavar="HxW", help="(default: %(default)s)")
    add("--workers", type=comma_separated_ints, default="0,1,2", metavar="N,N", help="processes (default: %(default)s)")
    arguments = parser.parse_args(argv)
    if len(arguments.size) != 1:
        parser.error(f"--size must be one size. Received: {arguments.size}")
    with user_errors(parser.prog):
        start(parser, arguments)
        (size,) = arguments.size
        report = measure(size=size, images=arguments.images, rounds=arguments.repeats, workers=arguments.workers)
    report.write(arguments.output, "data", document=arguments.document)


if __name__ == "__main__":
    main()
