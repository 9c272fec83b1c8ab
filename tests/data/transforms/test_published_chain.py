"""Parity with the published augmentation: random draws and pixels, with separate and fused transforms."""

import hashlib
import json

import numpy as np
import pytest

from dl_lib.data.mapper import DatasetMapper
from dl_lib.data.transforms import RandomCropPad, RandomFlip, ResizeShortestEdge, fuse, sample_transforms
from tests.helpers.published import REFERENCE, image, label

PUBLISHED = json.loads((REFERENCE / "data" / "augmentation.json").read_text())
SMALL = PUBLISHED["small_train"]


class LegacyGenerator:
    """Legacy global NumPy generator of the published code, with the method names of a `Generator`."""

    def __init__(self, seed: int) -> None:
        state = np.random.RandomState(seed)
        self.choice, self.uniform, self.integers = state.choice, state.uniform, state.randint


def small_chain():
    return [
        ResizeShortestEdge(tuple(SMALL["short_edge_length"]), SMALL["max_size"], "pil"),
        RandomFlip(),
        RandomCropPad(tuple(SMALL["crop_pad"]), image_pad=SMALL["img_pad"], label_pad=SMALL["seg_pad"]),
    ]


def sha256(array):
    return hashlib.sha256(np.ascontiguousarray(array, dtype=np.uint8).tobytes()).hexdigest()


def rgb_image():
    """Return the reference image in file order, RGB; the model input is BGR."""
    return image(0).numpy().astype(np.uint8).transpose(1, 2, 0)


def bgr_hash(pixels):
    return sha256(pixels[..., ::-1].transpose(2, 0, 1))


@pytest.mark.parametrize("row", PUBLISHED["shipped_geometry"]["rows"], ids=lambda row: f"seed{row['seed']}")
def test_geometry(row):
    chain = PUBLISHED["shipped_geometry"]
    augmentations = [
        ResizeShortestEdge(tuple(chain["short_edges_px"]), chain["max_size_px"]),
        RandomFlip(),
        RandomCropPad(tuple(chain["crop_size"])),
    ]
    size = tuple(chain["image_hw"])
    resize, flip, crop = sample_transforms(augmentations, rng=LegacyGenerator(row["seed"]), size=size)
    assert [*size, resize.height, resize.width] == row["resize"]
    assert flip.flipped == row["flip"]
    assert [crop.left, crop.top, *crop.window[::-1]] == row["crop_x0_y0_w_h"]
    padding = [crop.output[axis] - crop.window[axis] for axis in (1, 0)]
    assert list(crop.pad_top_left[::-1]) == [before for before, _ in row["pad_w_h"]]
    assert padding == [before + after for before, after in row["pad_w_h"]]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("row", SMALL["rows"], ids=lambda row: f"seed{row['seed']}")
def test_pixels_and_labels_are_bit_exact(row, fused):
    pixels, ids = rgb_image(), label(0).numpy()
    transforms = sample_transforms(small_chain(), rng=LegacyGenerator(row["seed"]), size=ids.shape)
    for transform in fuse(transforms) if fused else transforms:
        pixels, ids = transform.apply_image(pixels), transform.apply_label(ids)
    counts = np.bincount(ids.ravel(), minlength=256)
    assert [*counts[:19], counts[255]] == row["label_counts"]
    assert sha256(ids) == row["label_sha256"]
    assert bgr_hash(pixels) == row["image_sha256"]


def test_mapped_sample_is_bit_exact():
    row = SMALL["rows"][5]
    mapper = DatasetMapper(
        small_chain(), channel_order="BGR", num_classes=19, ignore_value=SMALL["seg_pad"], transform_label=True
    )
    sample = {"image": rgb_image(), "sem_seg": label(0).numpy(), "image_id": "0", "file_name": "0.png"}
    mapped = mapper(sample, rng=LegacyGenerator(row["seed"]))
    assert sha256(mapped["image"].numpy()) == row["image_sha256"]
    assert sha256(mapped["sem_seg"].numpy()) == row["label_sha256"]


def test_evaluation_resize_is_bit_exact():
    chain = PUBLISHED["small_test"]
    augmentation = ResizeShortestEdge((chain["short_edge_length"],), chain["max_size"], "pil")
    resize = augmentation.get_transform(np.random.default_rng(0), size=(chain["height"], chain["width"]))
    assert [3, resize.height, resize.width] == chain["image_shape"]
    assert bgr_hash(resize.apply_image(rgb_image())) == chain["image_sha256"]
