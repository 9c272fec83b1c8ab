"""Label PNGs, read with a different library than the one that wrote them."""

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from dl_lib.data.datasets.cityscapes_labels import CITYSCAPES_LABELS
from dl_lib.data.datasets.voc import VOC_PALETTE
from dl_lib.data.errors import InvalidSampleError
from dl_lib.data.reading import read_label
from dl_lib.evaluation.predictions.label_files import LabelPngWriter, encode_label, label_path
from tests.helpers.evaluation import make_samples, predictions_of


def classes(count, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, count, (37, 53)).astype(dtype)


def test_cityscapes_pngs_contain_label_ids():
    train_ids = classes(19)
    image = Image.open(io.BytesIO(encode_label(train_ids, benchmark="cityscapes")))
    id_of = {label.train_id: label.id for label in CITYSCAPES_LABELS if not label.ignore_in_eval}
    assert image.mode == "L"
    assert np.array(image).tolist() == [[id_of[value] for value in row] for row in train_ids.tolist()]


def test_voc_pngs_contain_palette_indices():
    ids = classes(21)
    data = encode_label(ids, benchmark="voc")
    image = Image.open(io.BytesIO(data))
    assert image.mode == "P" and (np.array(image) == ids).all()
    seen = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]  # opencv decodes to colors
    assert (seen == np.array(VOC_PALETTE, np.uint8)[ids]).all()


@pytest.mark.parametrize(("count", "dtype", "bits"), [(256, np.uint8, 8), (257, np.int32, 16), (60000, np.int32, 16)])
def test_other_pngs_contain_class_indices(count, dtype, bits, tmp_path):
    ids = classes(count, dtype)
    path = tmp_path / "label.png"
    path.write_bytes(encode_label(ids, benchmark=""))
    read = read_label(str(path))  # as datasets read labels
    assert read.dtype.itemsize == bits // 8 and (read == ids).all()


def test_class_index_beyond_16_bit_is_an_error():
    with pytest.raises(ValueError, match=r"coco_rle\. Received: classes.max\(\)=65536$"):
        encode_label(np.array([[1, 65536]], np.int32), benchmark="")


def test_one_file_per_image_with_folders_from_ids(tmp_path):
    samples = make_samples(2)
    samples[1]["image_id"] = "city/image.one"
    writer = LabelPngWriter(tmp_path / "labels", benchmark="")
    writer.open()
    predictions = predictions_of(samples)
    for prediction in predictions:
        writer.process(prediction)
    writer.close()
    for name, prediction in zip(("image_0.png", "city/image.one.png"), predictions, strict=True):
        read = torch.from_numpy(cv2.imread(str(tmp_path / "labels" / name), cv2.IMREAD_UNCHANGED))
        assert torch.equal(read, prediction.classes)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == 2


@pytest.mark.parametrize("image_id", ["../a", "/etc/a", "a/../../b", "", "a\nb"])
def test_id_outside_the_folder_is_rejected(tmp_path, image_id):
    with pytest.raises(InvalidSampleError, match=r"inside the output folder.*Received: image_id="):
        label_path(tmp_path, image_id)
