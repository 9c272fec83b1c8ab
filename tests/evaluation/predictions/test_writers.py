"""COCO RLE writer: compatibility with pycocotools, several processes, memory use."""

import io
import json
import tracemalloc
from contextlib import redirect_stdout
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from dl_lib.data.errors import MissingDataError
from dl_lib.evaluation.predictions.writers import CocoRleWriter
from dl_lib.utils import comm
from tests.helpers.evaluation import NAMES, make_samples, predictions_of


def write(folder, predictions):
    writer = CocoRleWriter(folder, class_names=NAMES)
    writer.open()
    for prediction in predictions:
        writer.process(prediction)
    writer.close()


def numbered(count):
    """Return predictions with decimal ids, as in COCO."""
    return [replace(one, image_id=str(100 + index)) for index, one in enumerate(predictions_of(make_samples(count)))]


def read(folder):
    return json.loads((folder / "coco_rle.json").read_text())


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in decode
def test_masks_of_an_image_equal_its_classes(tmp_path):
    predictions = numbered(3)
    write(tmp_path / "new", predictions)
    entries = read(tmp_path / "new")
    for index, prediction in enumerate(predictions):
        of_image = [entry for entry in entries if entry["image_id"] == 100 + index]
        assert [entry["category_id"] for entry in of_image] == prediction.classes.unique().tolist()
        painted = np.full(prediction.classes.shape, 99)
        for entry in of_image:
            mask = coco_mask.decode(entry["segmentation"]).astype(bool)
            assert (painted[mask] == 99).all(), "masks overlap"
            painted[mask] = entry["category_id"]
        assert painted.tolist() == prediction.classes.tolist()
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["coco_categories.json", "coco_rle.json"]


def test_pycocotools_loads_the_results(tmp_path):
    predictions = numbered(2)
    write(tmp_path, predictions)
    truth = COCO()
    truth.dataset = {
        "images": [{"id": 100 + index, "height": 1, "width": 1} for index in range(2)],
        "annotations": [],
        "categories": json.loads((tmp_path / "coco_categories.json").read_text()),
    }
    with redirect_stdout(io.StringIO()):  # pycocotools prints
        truth.createIndex()
        results = truth.loadRes(str(tmp_path / "coco_rle.json"))
    for image_id, prediction in zip((100, 101), predictions, strict=True):
        annotations = results.loadAnns(results.getAnnIds(imgIds=[image_id]))
        assert sum(annotation["area"] for annotation in annotations) == prediction.classes.numel()
    assert [category["name"] for category in results.loadCats(results.getCatIds())] == list(NAMES)


@pytest.mark.parametrize("image_id", ["007", "2007_000032", "city/image", "0x1", "²", "-1"])
def test_non_decimal_ids_remain_text(tmp_path, image_id):
    (prediction,) = predictions_of(make_samples(1))
    write(tmp_path, [replace(prediction, image_id=image_id)])
    assert {entry["image_id"] for entry in read(tmp_path)} == {image_id}


def test_empty_result_replaces_an_older_file(tmp_path):
    write(tmp_path, numbered(2))
    write(tmp_path, [])
    assert read(tmp_path) == []


def test_interrupted_evaluation_keeps_the_older_file(tmp_path):
    write(tmp_path, numbered(2))
    before = read(tmp_path)
    writer = CocoRleWriter(tmp_path, class_names=NAMES)
    writer.open()
    writer.process(numbered(1)[0])
    assert read(tmp_path) == before
    write(tmp_path, numbered(1))  # the next evaluation discards the parts
    assert read(tmp_path) == [entry for entry in before if entry["image_id"] == 100]


def _write_shard(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=3)
    writer = CocoRleWriter(folder / "merged", class_names=NAMES)
    writer.open()
    for prediction in numbered(4)[rank * 2 : rank * 2 + 2]:  # the third process has no image
        writer.process(prediction)
    comm.synchronize()
    if comm.is_main_process():
        writer.close()
    dist.destroy_process_group()


def test_parts_of_several_processes_are_concatenated(tmp_path):
    mp.start_processes(_write_shard, args=(tmp_path,), nprocs=3, start_method="fork")
    write(tmp_path / "one", numbered(4))
    merged, one = ((tmp_path / name / "coco_rle.json").read_bytes() for name in ("merged", "one"))
    assert merged == one
    assert len(list((tmp_path / "merged").iterdir())) == 2


def test_missing_parts_of_other_processes_are_an_error(tmp_path, monkeypatch):
    writer = CocoRleWriter(tmp_path, class_names=NAMES)
    writer.open()
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    with pytest.raises(MissingDataError, match=r"OUTPUT_DIR.*Received: missing=\['coco_rle.json.part1'\]$"):
        writer.close()


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    generator = np.random.default_rng(0)
    (one,) = numbered(1)
    predictions = [replace(one, classes=torch.from_numpy(generator.integers(0, 4, (50, 50), np.uint8)))] * 200
    write(tmp_path, predictions[:20])  # warm up caches, which do not count
    peaks = []
    for count in (20, 200):
        tracemalloc.start()
        write(tmp_path, predictions[:count])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (tmp_path / "coco_rle.json").stat().st_size > 8 * peaks[0]
    assert peaks[1] < 1.2 * peaks[0]
