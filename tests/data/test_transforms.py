import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dl_lib.data.transforms import (
    CropPad,
    HorizontalFlip,
    RandomCropPad,
    RandomFlip,
    Resize,
    ResizeShortestEdge,
    draw_geometries,
)

PUBLISHED = json.loads((Path(__file__).parents[1] / "reference" / "data" / "augmentation.json").read_text())
SIDE = st.integers(1, 40)


class LegacyDraws:
    """The global numpy generator that the published code draws from, with a Generator's method names."""

    def __init__(self, seed: int) -> None:
        state = np.random.RandomState(seed)
        self.choice, self.uniform, self.integers = state.choice, state.uniform, state.randint


@pytest.mark.parametrize("row", PUBLISHED["shipped_geometry"]["rows"], ids=lambda row: f"seed{row['seed']}")
def test_geometry_of_the_published_chain(row):
    chain = PUBLISHED["shipped_geometry"]
    augmentations = [
        ResizeShortestEdge(tuple(chain["short_edges_px"]), chain["max_size_px"]),
        RandomFlip(),
        RandomCropPad(tuple(chain["crop_size"])),
    ]
    size = tuple(chain["image_hw"])
    resize, flip, crop = draw_geometries(augmentations, rng=LegacyDraws(row["seed"]), size=size)
    assert [*size, resize.height, resize.width] == row["resize"]
    assert flip.flipped == row["flip"]
    assert [crop.left, crop.top, *crop.window[::-1]] == row["crop_x0_y0_w_h"]
    padding = [crop.output[axis] - crop.window[axis] for axis in (1, 0)]
    assert list(crop.pad_top_left[::-1]) == [before for before, _ in row["pad_w_h"]]
    assert padding == [before + after for before, after in row["pad_w_h"]]


@pytest.mark.parametrize("row", PUBLISHED["small_train"]["rows"], ids=lambda row: f"seed{row['seed']}")
def test_labels_of_the_published_chain_bit_by_bit(row):
    chain = PUBLISHED["small_train"]
    rows, columns = np.mgrid[:128, :256]
    label = (columns // 16 + 3 * (rows // 12)) % 20
    label[label == 19] = 255
    augmentations = [
        ResizeShortestEdge(tuple(chain["short_edge_length"]), chain["max_size"]),
        RandomFlip(),
        RandomCropPad(tuple(chain["crop_pad"]), image_pad=chain["img_pad"], label_pad=chain["seg_pad"]),
    ]
    for geometry in draw_geometries(augmentations, rng=LegacyDraws(row["seed"]), size=label.shape):
        label = geometry.apply_label(label)
    counts = np.bincount(label.ravel(), minlength=256)
    assert [*counts[:19], counts[255]] == row["label_counts"]
    assert hashlib.sha256(np.ascontiguousarray(label, dtype=np.uint8).tobytes()).hexdigest() == row["label_sha256"]


def test_size_of_the_published_test_chain():
    chain = PUBLISHED["small_test"]
    augmentation = ResizeShortestEdge((chain["short_edge_length"],), chain["max_size"])
    resize = augmentation.draw(np.random.default_rng(0), size=(chain["height"], chain["width"]))
    assert [3, resize.height, resize.width] == chain["image_shape"]


@given(old=st.tuples(SIDE, SIDE), new=st.tuples(SIDE, SIDE), dtype=st.sampled_from([np.uint8, np.int16, np.int64]))
@settings(max_examples=60, deadline=None)
def test_resized_labels_are_the_pixels_under_the_new_centres(old, new, dtype):
    label = np.random.default_rng(0).integers(0, 100, old).astype(dtype)
    result = Resize(*new).apply_label(label)
    assert result.dtype == dtype
    rows = [int(np.floor((2 * row + 1) * old[0] / (2 * new[0]))) for row in range(new[0])]
    columns = [int(np.floor((2 * column + 1) * old[1] / (2 * new[1]))) for column in range(new[1])]
    np.testing.assert_array_equal(result, [[label[row, column] for column in columns] for row in rows])


@given(old=st.tuples(SIDE, SIDE), factors=st.tuples(st.integers(1, 4), st.integers(1, 4)))
@settings(max_examples=30, deadline=None)
def test_labels_enlarged_by_whole_factors_are_repeated(old, factors):
    label = np.random.default_rng(1).integers(0, 256, old).astype(np.uint8)
    result = Resize(old[0] * factors[0], old[1] * factors[1]).apply_label(label)
    np.testing.assert_array_equal(result, label.repeat(factors[0], 0).repeat(factors[1], 1))


def test_enlarged_images_are_bilinear_as_pillow_has_it():
    image = np.random.default_rng(0).integers(0, 256, (13, 17, 3)).astype(np.uint8)
    result = Resize(40, 51).apply_image(image)
    reference = np.asarray(Image.fromarray(image).resize((51, 40), Image.Resampling.BILINEAR))
    assert np.abs(result.astype(int) - reference).max() <= 1


@given(size=st.tuples(SIDE, SIDE), crop=st.tuples(SIDE, SIDE), seed=st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_crop_and_pad_against_a_padded_plane(size, crop, seed):
    """The result is a window of the image on an endless plane of padding; image and label share it."""
    geometry = RandomCropPad(crop, image_pad=7, label_pad=9).draw(np.random.default_rng(seed), size=size)
    label = np.arange(10, 10 + size[0] * size[1]).reshape(size)
    result = geometry.apply_label(label)
    plane = np.pad(label, 40, constant_values=9)
    top = 40 + geometry.top - max(0, crop[0] - size[0]) // 2
    left = 40 + geometry.left - max(0, crop[1] - size[1]) // 2
    np.testing.assert_array_equal(result, plane[top : top + crop[0], left : left + crop[1]])
    image = np.stack([label % 251] * 3, axis=2).astype(np.uint8)
    padded = result == 9
    expected = np.where(padded, 7, result % 251)
    np.testing.assert_array_equal(geometry.apply_image(image), np.stack([expected] * 3, axis=2))


def test_every_window_is_drawn_and_none_beyond():
    draws = np.random.default_rng(0)
    augmentation = RandomCropPad((3, 2))
    corners = {(crop.top, crop.left) for crop in (augmentation.draw(draws, size=(5, 4)) for _ in range(300))}
    assert corners == {(top, left) for top in range(3) for left in range(3)}


@given(
    size=st.tuples(st.integers(1, 3000), st.integers(1, 3000)), short=st.integers(1, 2048), longest=st.integers(1, 4096)
)
@settings(max_examples=100, deadline=None)
def test_resize_keeps_the_shape_and_both_bounds(size, short, longest):
    resize = ResizeShortestEdge((short,), longest).draw(np.random.default_rng(0), size=size)
    new = (resize.height, resize.width)
    assert max(new) <= longest
    assert min(new) <= short
    assert min(new) == short or max(new) == longest
    scale = min(short / min(size), longest / max(size))
    assert all(abs(side - old * scale) <= 0.5 + 1e-9 or side == 1 for side, old in zip(new, size, strict=True))


def test_flip_happens_at_its_rate_and_moves_columns():
    draws = np.random.default_rng(0)
    flips = [RandomFlip(0.3).draw(draws, size=(4, 4)).flipped for _ in range(2000)]
    assert abs(np.mean(flips) - 0.3) < 0.04
    label = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(HorizontalFlip(True).apply_label(label), [[2, 1, 0], [5, 4, 3]])
    image = np.arange(18).reshape(2, 3, 3).astype(np.uint8)
    np.testing.assert_array_equal(HorizontalFlip(True).apply_image(image)[:, 0], image[:, 2])
    assert HorizontalFlip(False).apply_image(image) is image


def test_geometries_are_values():
    assert CropPad(0, 1, (2, 3), (4, 5), 0, 255) == CropPad(0, 1, (2, 3), (4, 5), 0, 255)
    assert len({Resize(1, 2), Resize(1, 2), HorizontalFlip(True)}) == 2


@pytest.mark.parametrize(
    ("make", "received"),
    [
        (lambda: ResizeShortestEdge((), 5), r"short_edges_px=\(\), max_size_px=5"),
        (lambda: ResizeShortestEdge((0, 5), 5), r"short_edges_px=\(0, 5\), max_size_px=5"),
        (lambda: ResizeShortestEdge((5,), 0), "max_size_px=0"),
        (lambda: RandomFlip(1.5), "probability=1.5"),
        (lambda: RandomCropPad((0, 4)), r"crop_size=\(0, 4\)"),
        (lambda: RandomCropPad((4, 4), image_pad=256), "image_pad=256"),
    ],
)
def test_bad_values_are_refused(make, received):
    with pytest.raises(ValueError, match=f"Received: .*{received}$"):
        make()
