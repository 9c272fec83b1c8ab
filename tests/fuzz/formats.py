"""Formats under test: damaged contents, and readers that check what they return.

A reader writes the content to a file, reads it as the library does, and asserts that the values are valid. The only
errors it may raise are `USER_ERRORS`.
"""

import contextlib
import io
import json
import math
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save as save_safetensors

from dl_lib.checkpoint import Checkpointer, CheckpointError
from dl_lib.checkpoint.files import read_checkpoint, save_checkpoint
from dl_lib.cli.compare_runs import main as compare_runs
from dl_lib.config import ConfigError, apply_overrides, get_cfg
from dl_lib.data.archives import PublishedArchive, unpack_archive
from dl_lib.data.cache import cached_dataset
from dl_lib.data.datasets.coco import CocoSource
from dl_lib.data.datasets.sbd import read_sbd_label
from dl_lib.data.errors import DataError
from dl_lib.data.files import pair_files, read_names
from dl_lib.data.label_map import LabelClasses
from dl_lib.data.orientation import read_orientation
from dl_lib.data.reading import read_color_label, read_image, read_label
from dl_lib.engine import NonFiniteLossError
from dl_lib.engine.hooks import BestCheckpointer, EarlyStopping, PeriodicWriter
from dl_lib.engine.training.writers import JSONWriter
from dl_lib.launch import LaunchError
from dl_lib.utils.files import WriteError
from dl_lib.utils.metrics_file import MetricsFileError, read_metrics
from dl_lib.validation import validate_config
from tests.helpers.dataset_files import as_counts, as_text, save_sbd_label
from tests.helpers.image_files import encoded, exif, npy, with_palette
from tests.helpers.mutations import EXTREMES, mutated_bytes, mutated_tree, with_png_checksums
from tests.helpers.training import LeastSquares, resumable_trainer

USER_ERRORS = (ConfigError, DataError, CheckpointError, MetricsFileError, LaunchError, NonFiniteLossError, WriteError)
FORMATS: dict[str, Callable[[Path], "Format"]] = {}
IGNORE = 255


class Content:
    """Content of a file, with a short representation."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))

    def __repr__(self) -> str:
        text = repr(self.value)
        return text if len(text) < 2000 else f"{text[:1000]} ... {text[-1000:]}"


class Format(NamedTuple):
    """Strategy of contents, and their reader."""

    contents: st.SearchStrategy[Any]
    read: Callable[[Any], None]


def registered(make: Callable[[Path], Format]) -> Callable[[Path], Format]:
    """Register a function that prepares a format in an empty folder."""
    FORMATS[make.__name__] = make
    return make


CONFIG = """
MODEL:
  WEIGHTS: ""
  BACKBONE: {LAYER_NUM: 3, CELL_NUM_LIST: [2, 3, 4], CELL_TYPE: [sep_conv_3x3, skip_connect], DROP_PROB: 0.1}
  SEM_SEG_HEAD: {NUM_CLASSES: 2, IGNORE_VALUE: 255}
  LOSS: {CLASS_WEIGHTS: [1.0, 2.5]}
DATASETS:
  TRAIN: [mine]
  FOLDERS:
    - {NAME: mine, IMAGES: images, LABELS: labels, CLASSES: [road, car], COLORS: [[0, 0, 0], [255, 0, 0]]}
    - {NAME: ids, IMAGES: [a, b], LABELS: [a, b], SPLIT: [a.txt, b.txt], IMAGE_PATTERN: "{name}_sat",
       LABEL_PATTERN: "{name}_mask.png", CLASSES: [road, car], LABEL_MAP: {0: ignore, 1-5: road, 7: 1}}
    - {NAME: colors, IMAGES: a, LABELS: a, CLASSES: [road, car], COLOR_MAP: {"0, 0, 0": road, "#ff0000": car}}
DATALOADER: {NUM_WORKERS: 2, CACHE: none}
INPUT: {CROP_SIZE: [64, 64], MIN_SIZE_TRAIN: [], FLIP_PROB: 0.5}
SOLVER:
  IMS_PER_BATCH: 4
  OPTIMIZER: {BASE_LR: 1.0e-2, GROUPS: [{PARAMS: gate, LR_MULTI: 2.0}]}
  LR_SCHEDULER: {MAX_ITER: 100, WARMUP_ITERS: 10}
SEED: 3
"""


@registered
def config(folder):
    path = folder / "config.yaml"

    def read(content):
        path.write_bytes(content)
        cfg = get_cfg()
        cfg.merge_from_file(path)
        validate_config(cfg)
        again = get_cfg()
        again.merge_from_other_cfg(yaml.safe_load(cfg.dump()))
        assert again == cfg

    trees = mutated_tree(yaml.safe_load(CONFIG)).map(lambda tree: yaml.safe_dump(tree).encode())
    return Format(mutated_bytes([CONFIG.encode()]) | trees, read)


@registered
def overrides(folder):
    keys = sorted(get_cfg().flat())
    texts = [json.dumps(value) if not isinstance(value, str) else value for value in EXTREMES]

    def read(pairs):
        cfg = get_cfg()
        cfg.merge_from_other_cfg(yaml.safe_load(CONFIG))
        apply_overrides(cfg, [f"{key}={value}" for key, value in pairs])
        validate_config(cfg)

    values = st.sampled_from(texts) | st.text(max_size=12) | mutated_bytes([b"[1, 2.5, 'x']"]).map(os.fsdecode)
    return Format(st.lists(st.tuples(st.sampled_from(keys), values), min_size=1, max_size=3), read)


@registered
def checkpoint(folder):
    def trainer_in(run):
        metric = {"metric": "total_loss", "mode": "min"}
        hooks = [EarlyStopping(**metric, patience=3), PeriodicWriter([JSONWriter(run / "metrics.json")], period=1)]
        trainer = resumable_trainer(run, max_iter=6, period=2, hooks=hooks)
        trainer.hooks.insert(-1, BestCheckpointer(trainer.hooks[1]._checkpointer, **metric))
        return trainer

    valid, run = folder / "valid", folder / "run"
    valid.mkdir()
    trainer = trainer_in(valid)
    trainer.max_iter = 4
    trainer.train()
    files = {path.name: path.read_bytes() for path in valid.iterdir()}
    tree = read_checkpoint(valid / "model_final.pth")
    tensors = (torch.zeros(0), torch.full((3,), math.nan), torch.zeros(3, dtype=torch.int8), torch.zeros(2, 2))

    def read(case):
        name, content, has_checksum = case
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir()
        for other, data in files.items():
            if has_checksum or other != f"{name}.sha256":
                (run / other).write_bytes(data)
        if isinstance(content, bytes):
            (run / name).write_bytes(content)
        else:
            save_checkpoint(content, run / name)
        trainer = trainer_in(run)
        assert 0 <= trainer.iteration <= 6
        assert all(parameter.isfinite().all() for parameter in trainer.model.parameters())
        trainer.train()
        assert set(read_metrics(run)["total_loss"].iterations) <= set(range(1, 7))

    damaged = st.sampled_from(sorted(files)).flatmap(
        lambda name: st.tuples(st.just(name), mutated_bytes([files[name]]), st.booleans())
    )
    trees = mutated_tree(tree, extremes=(*EXTREMES, *tensors))
    return Format(damaged | st.tuples(st.just("model_final.pth"), trees.filter(_is_saveable), st.just(True)), read)


def _is_saveable(tree):
    return isinstance(tree, dict)


@registered
def weights(folder):
    tree = {"model": LeastSquares().state_dict(), "iteration": 3}
    tensors = (torch.zeros(0), torch.full((3,), math.nan), torch.zeros(3, dtype=torch.int8), np.zeros(3))
    save_checkpoint(tree, folder / "valid.pth")
    contents = {".pth": (folder / "valid.pth").read_bytes(), ".safetensors": save_safetensors(tree["model"])}

    def read(case):
        suffix, content = case
        path = folder / f"weights{suffix}"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        model = LeastSquares()
        Checkpointer(model).load(path)
        assert all(parameter.isfinite().all() for parameter in model.parameters())

    damaged = st.sampled_from(sorted(contents)).flatmap(
        lambda suffix: st.tuples(st.just(suffix), mutated_bytes([contents[suffix]]))
    )
    return Format(damaged | st.tuples(st.just(".pth"), mutated_tree(tree, extremes=(*EXTREMES, *tensors))), read)


@registered
def metrics(folder):
    path = folder / "metrics.json"
    lines = [{"iteration": i, "total_loss": 1 / i, "lr": 0.1, "mine_val/mIoU": 0.5} for i in range(1, 6)]
    trees = mutated_tree(lines).map(lambda tree: "".join(f"{json.dumps(line)}\n" for line in tree).encode())
    valid = "".join(f"{json.dumps(line)}\n" for line in lines).encode()

    def read(content):
        path.write_bytes(content)
        with contextlib.suppress(*USER_ERRORS):
            for series in read_metrics(folder).values():
                assert sorted(set(series.iterations)) == list(series.iterations)
                assert all(map(math.isfinite, series.values))
        assert 0 <= JSONWriter(path).open(iteration=4, written=2) <= 4
        kept = path.read_bytes().splitlines()
        assert all(json.loads(line)["iteration"] <= 4 for line in kept)

    return Format(mutated_bytes([valid]) | trees, read)


@registered
def palette(folder):
    path = folder / "palette.txt"
    classes = LabelClasses(("road", "car"), ignore_value=IGNORE)

    def read(content):
        path.write_bytes(content)
        for color, label in classes.palette_reader(path).colors:
            assert all(0 <= channel <= 255 for channel in color)
            assert label in (0, 1, IGNORE)

    return Format(mutated_bytes([b"0 0 0\n255 0 0\n", b"name,r,g,b\nroad,0,0,0\ncar,255,0,0\nignore,1,1,1\n"]), read)


@registered
def results(folder):
    path = folder / "results.json"
    costs = {kind: {"avg": 1.5, "min": 1.0, "max": 2.0} for kind in ("expected", "real", "real_complete", "executed")}
    classes = {"road": {"IoU": 0.5, "ACC": 0.7}, "car": {"IoU": None, "ACC": None}}
    scores = {"mIoU": 0.5, "fwIoU": 0.5, "mACC": 0.6, "pACC": 0.7}
    values = {**scores, "classes": classes, "costs_gflops": costs, "seconds_per_image": 0.1, "images": 3}
    tree = {"datasets": {"mine_val": values}, "parameters": 1000}

    def read(content):
        path.write_bytes(content)
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                compare_runs([str(folder), "--classes"])
        except SystemExit as error:
            assert error.code == 2
            raise ConfigError("refused by the command") from None

    damaged = mutated_bytes([json.dumps(tree).encode()])
    return Format(damaged | mutated_tree(tree).map(lambda tree: json.dumps(tree).encode()), read)


@registered
def coco(folder):
    path, label = folder / "annotations.json", np.zeros((8, 12), bool)
    label[2:5, 3:9] = True
    shapes = [
        as_counts(label),
        as_text(label),
        [[1, 1, 7, 1, 7, 5.5, 1, 5]],
        [[0, 0, 12, 0, 12, 8], [1, 1, 3, 1, 3, 3]],
    ]
    tree = {
        "images": [{"id": i, "file_name": f"{i}.png", "height": 8, "width": 12} for i in (1, 2)],
        "categories": [{"id": i, "name": f"class {i}"} for i in (1, 2, 3)],
        "annotations": [
            {"id": i, "image_id": 1 + i % 2, "category_id": 1 + i % 3, "iscrowd": int(i == 0), "segmentation": shape}
            for i, shape in enumerate(shapes)
        ],
    }
    for image in tree["images"]:
        Image.new("RGB", (12, 8)).save(folder / image["file_name"])

    def read(content):
        path.write_bytes(content)
        source = CocoSource(str(path), str(folder), background="background", ignore_value=IGNORE)
        allowed = {*range(source.meta().num_classes), IGNORE}
        dataset = source()
        for index in range(len(dataset)):
            with contextlib.suppress(DataError):  # of one image, such as a missing file
                sample = dataset[index]
                assert sample["sem_seg"].shape == sample["image"].shape[:2] == (8, 12)
                assert set(np.unique(sample["sem_seg"]).tolist()) <= allowed

    damaged = mutated_bytes([json.dumps(tree).encode()])
    return Format(damaged | mutated_tree(tree).map(lambda tree: json.dumps(tree).encode()), read)


@registered
def lists(folder):
    path = folder / "train.txt"
    files = {name: f"/images/{name}.jpg" for name in ("2007_000032", "2007_000039", "mit_ä/1")}

    def read(content):
        path.write_bytes(content)
        paired = pair_files(read_names(path), images=files, labels=files)
        assert {record.image_id for record in paired.records} <= files.keys()

    return Format(mutated_bytes(["".join(f"{name}\n" for name in files).encode()]), read)


@registered
def images(folder):
    path = folder / "image"
    rng = np.random.default_rng(0)
    color, gray = rng.integers(0, 255, (6, 9, 3), np.uint8), rng.integers(0, 255, (6, 9), np.uint8)
    valid = [encoded(color, kind) for kind in ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM")]
    valid += [encoded(gray, "PNG"), encoded(gray > 99, "PNG"), encoded(gray.astype(np.uint16), "PNG")]
    valid += [encoded(color, "JPEG", progressive=True), encoded(color, "TIFF", compression="tiff_lzw")]
    valid += [encoded(color, kind, exif=exif(6)) for kind in ("JPEG", "TIFF", "PNG", "WEBP")]

    def read(content):
        path.write_bytes(content)
        assert 1 <= read_orientation(path) <= 8
        image = read_image(path)
        assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3 and image.size

    damaged = mutated_bytes(valid)
    return Format(damaged | damaged.map(with_png_checksums), read)


@registered
def labels(folder):
    path = folder / "label.png"
    ids = np.arange(54, dtype=np.uint8).reshape(6, 9)
    valid = [encoded(with_palette(ids)), *(encoded(ids, kind) for kind in ("PNG", "TIFF", "BMP"))]
    valid += [encoded(ids.astype(np.uint16) * 999, kind) for kind in ("PNG", "TIFF")]
    valid += [npy(ids.astype(dtype)) for dtype in (np.uint8, np.int64, np.float32)]

    def read(content):
        path.write_bytes(content)
        with contextlib.suppress(DataError):
            colors = read_color_label(path)
            assert colors.dtype == np.uint8 and colors.shape[2:] == (3,) and colors.size
        label = read_label(path)
        assert np.issubdtype(label.dtype, np.integer) and label.ndim == 2 and label.size

    damaged = mutated_bytes(valid)
    return Format(damaged | damaged.map(with_png_checksums), read)


@registered
def sbd_labels(folder):
    path = folder / "label.mat"
    save_sbd_label(path, np.arange(54, dtype=np.uint8).reshape(6, 9))

    def read(content):
        path.write_bytes(content)
        label = read_sbd_label(str(path))
        assert label.dtype == np.uint8 and label.ndim == 2

    return Format(mutated_bytes([path.read_bytes()]), read)


class _Samples:
    """Dataset of three constant samples, the last one without a label."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        sample = {"image": np.full((4, 5, 3), index, np.uint8), "image_id": str(index), "file_name": f"{index}.png"}
        return sample if index == 2 else {**sample, "sem_seg": np.full((4, 5), index, np.uint8)}

    def fingerprint(self):
        return "constant"


@registered
def cache(folder):
    samples = _Samples()
    path = cached_dataset(samples, name="mine", folder=folder).path
    valid = path.read_bytes()

    def read(content):
        path.write_bytes(content)
        dataset = cached_dataset(samples, name="mine", folder=folder)
        assert len(dataset) == len(samples)
        for index in range(len(dataset)):
            found, expected = dataset[index], samples[index]
            assert found.keys() == expected.keys()
            for name, value in expected.items():
                assert np.array_equal(found[name], value), name

    return Format(mutated_bytes([valid]), read)


@registered
def archives(folder):
    path, extracted = folder / "archive.tar", folder / "extracted"
    archive = PublishedArchive("archive.tar", "https://example.org/archive.tar", "", {"data/": "mine/"})
    valid = []
    for mode in ("w", "w:gz", "w:bz2", "w:xz"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode) as tar:
            for name in ("data/a.txt", "data/b/c.txt", "other.txt"):
                member = tarfile.TarInfo(name)
                member.size = 5
                tar.addfile(member, io.BytesIO(b"hello"))
        valid.append(buffer.getvalue())

    def read(content):
        shutil.rmtree(extracted, ignore_errors=True)
        path.write_bytes(content)
        try:
            unpack_archive(path, archive, folder=extracted)
        finally:
            assert {entry.name for entry in folder.iterdir()} <= {"archive.tar", "extracted"}
            assert {entry.name for entry in extracted.glob("[!.]*")} <= {"mine"}

    return Format(mutated_bytes(valid), read)
