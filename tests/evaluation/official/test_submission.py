"""Submission archives and their validation."""

import io
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dl_lib.config import get_cfg
from dl_lib.data import DatasetCatalog, build_test_loader
from dl_lib.data.datasets.voc import VOC_PALETTE
from dl_lib.data.sample_loader import SkippedSample
from dl_lib.evaluation.official.submission import InvalidSubmissionError, write_submission
from dl_lib.evaluation.runner.build import build_evaluator, build_writers, label_png_folder
from dl_lib.evaluation.runner.run import inference_on_dataset
from tests.helpers.dataset_files import VOC_NAMES, write_cityscapes, write_voc

COSTS = dict.fromkeys(["expt_flops", "real_flops", "real_flops_complete", "executed_flops"], 1.0)
SETS = {"cityscapes": "cityscapes_fine_sem_seg_test", "voc": "voc_2012_sem_seg_test"}


class ColumnModel(nn.Module):
    """Model that predicts classes by image column, at the requested size."""

    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes

    def forward(self, batched_inputs):
        return [{"sem_seg": self.logits(sample), "flops": COSTS} for sample in batched_inputs]

    def logits(self, sample):
        columns = torch.arange(sample["width"]) % self.num_classes
        one_hot = nn.functional.one_hot(columns.expand(sample["height"], -1), self.num_classes)
        return one_hot.permute(2, 0, 1).float()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets")
    write_cityscapes(root)
    write_voc(root)
    return root


@pytest.fixture(params=SETS)
def predicted(request, root, tmp_path, monkeypatch):
    """Benchmark, result and predictions folder of its test split; VOC images are resized, outputs are not."""
    monkeypatch.setenv("DL_DATASETS", str(root))
    name = SETS[request.param]
    num_classes = DatasetCatalog.meta(name).num_classes
    cfg = get_cfg()
    cfg.merge_from_list(["DATALOADER.NUM_WORKERS", 0, "INPUT.MIN_SIZE_TEST", 64])
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = num_classes
    result = inference_on_dataset(
        ColumnModel(num_classes),
        build_test_loader(cfg, name),
        build_evaluator(cfg, name, folder=tmp_path),
        writers=build_writers(cfg, name, folder=tmp_path, submission=True),
    )
    return request.param, result, label_png_folder(tmp_path)


def submit(predicted, output_dir):
    benchmark, result, folder = predicted
    return write_submission(result, benchmark=benchmark, folder=folder, output_dir=output_dir)


def read_archive(path):
    """Return {name: content} of an archive."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(path, "r:gz") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive if member.isfile()}


def test_archive_contains_every_image_in_the_required_format(predicted, tmp_path, root):
    path = submit(predicted, tmp_path)
    files = read_archive(path)
    if predicted[0] == "cityscapes":
        assert path == tmp_path / "submission_cityscapes_fine_sem_seg_test.zip"
        originals = {
            f"{city}_{number}_000019.png": root
            / f"cityscapes/leftImg8bit/test/{city}/{city}_{number}_000019_leftImg8bit.png"
            for city, number in (("berlin", "000000"), ("bonn", "000001"))
        }
        ids, mode = {7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33}, "L"
    else:
        assert path == tmp_path / "submission_voc_2012_sem_seg_test.tgz"
        originals = {
            f"results/VOC2012/Segmentation/comp6_test_cls/{name}.png": root / f"VOCdevkit/VOC2012/JPEGImages/{name}.jpg"
            for name in VOC_NAMES["test"]
        }
        ids, mode = set(range(21)), "P"
    assert set(files) == set(originals)
    for name, data in files.items():
        image = Image.open(io.BytesIO(data))
        with Image.open(originals[name]) as original:
            assert (image.size, image.mode) == (original.size, mode)
        assert set(np.unique(np.array(image)).tolist()) == ids
        if mode == "P":
            assert image.getpalette() == np.array(VOC_PALETTE).ravel().tolist()


def first_file(predicted):
    _, result, folder = predicted
    return folder / f"{result.images[0].image_id}.png"


def read(path):
    """Return pixels and palette of a PNG."""
    with Image.open(path) as image:
        return np.array(image), image.getpalette()


def save(path, pixels, *, palette=None):
    image = Image.fromarray(pixels)
    if palette is not None:
        image.putpalette(palette)
    image.save(path)


def assert_rejected(predicted, tmp_path, message):
    with pytest.raises(InvalidSubmissionError, match=message) as caught:
        submit(predicted, tmp_path)
    assert str(caught.value).splitlines()[-1].startswith("Received: ")
    assert not list(tmp_path.glob("submission*"))
    return str(caught.value)


def test_missing_file(predicted, tmp_path):
    first_file(predicted).unlink()
    assert_rejected(predicted, tmp_path, r"png is missing\nReceived: 2 predictions, 1 problems$")


@pytest.mark.parametrize("length", [0, 20, 100])
def test_truncated_file(predicted, tmp_path, length):
    first_file(predicted).write_bytes(first_file(predicted).read_bytes()[:length])
    assert_rejected(predicted, tmp_path, "png is not a PNG, or damaged: ")


def test_data_set_without_server(predicted, tmp_path):
    _, result, folder = predicted
    with pytest.raises(InvalidSubmissionError, match=r"of cityscapes, voc are supported\. .*Received: benchmark=''$"):
        write_submission(result, benchmark="", folder=folder, output_dir=tmp_path)


def test_file_of_an_unknown_image(predicted, tmp_path):
    other = first_file(predicted).with_name("other.png")
    other.write_bytes(b"")
    other.with_name(".DS_Store").write_bytes(b"")  # hidden files are no predictions
    assert_rejected(
        predicted,
        tmp_path,
        r"other.png belongs to no image of the dataset; remove it\nReceived: 2 predictions, 1 problems$",
    )


def test_wrong_size(predicted, tmp_path):
    path = first_file(predicted)
    pixels, palette = read(path)
    height, width = pixels.shape
    save(path, pixels[:-1], palette=palette)
    assert_rejected(predicted, tmp_path, rf"has {width} x {height - 1} pixels, but its image {width} x {height}")


def test_invalid_ids(predicted, tmp_path):
    path = first_file(predicted)
    pixels, palette = read(path)
    pixels[0, :2] = 34, 255
    save(path, pixels, palette=palette)
    assert_rejected(predicted, tmp_path, r"invalid ids: \[34, 255\]")


def test_wrong_format(predicted, tmp_path):
    path = first_file(predicted)
    pixels, _ = read(path)
    is_voc = predicted[0] == "voc"
    save(path, pixels, palette=None if is_voc else [0, 0, 0, 255, 255, 255])
    assert_rejected(predicted, tmp_path, "must be a PNG of mode P, with the palette of VOC" if is_voc else "of mode L")
    if is_voc:
        save(path, pixels, palette=list(range(256)) * 3)
        assert_rejected(predicted, tmp_path, "with the palette of VOC")


def test_image_names_of_another_benchmark(predicted, tmp_path):
    benchmark, result, folder = predicted
    images = (replace(result.images[0], image_id="mine"), *result.images[1:])
    first_file(predicted).rename(folder / "mine.png")
    assert_rejected((benchmark, replace(result, images=images), folder), tmp_path, r"'mine' is not an image name")


def test_skipped_samples(predicted, tmp_path):
    benchmark, result, folder = predicted
    skipping = replace(result, skipped=(SkippedSample(4, "four.png is damaged"),))
    assert_rejected((benchmark, skipping, folder), tmp_path, "sample 4 has no prediction: four.png is damaged")


def test_many_problems_are_truncated(predicted, tmp_path):
    folder = first_file(predicted).parent
    for number in range(9):
        Path(folder, f"{number}.txt").write_text("")
    message = assert_rejected(predicted, tmp_path, r"... and 4 more\nReceived: 2 predictions, 9 problems$")
    assert message.count("belongs to no image") == 5
