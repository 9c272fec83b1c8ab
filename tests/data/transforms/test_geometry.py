import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dl_lib.data.transforms import CropPad, HorizontalFlip, RandomCropPad, Resize, Rotate

SIDE = st.integers(1, 40)


@given(size=st.tuples(SIDE, SIDE), crop=st.tuples(SIDE, SIDE), seed=st.integers(0, 99))
@settings(max_examples=80, deadline=None)
def test_crop_and_pad_equals_a_window_of_a_padded_image(size, crop, seed):
    """The result is a window of the infinitely padded image, the same for image and label."""
    transform = RandomCropPad(crop, image_pad=7, label_pad=9).get_transform(np.random.default_rng(seed), size=size)
    label = np.arange(10, 10 + size[0] * size[1]).reshape(size)
    result = transform.apply_label(label)
    padded_label = np.pad(label, 40, constant_values=9)
    top = 40 + transform.top - max(0, crop[0] - size[0]) // 2
    left = 40 + transform.left - max(0, crop[1] - size[1]) // 2
    np.testing.assert_array_equal(result, padded_label[top : top + crop[0], left : left + crop[1]])
    image = np.stack([label % 251] * 3, axis=2).astype(np.uint8)
    padded = result == 9
    expected = np.where(padded, 7, result % 251)
    np.testing.assert_array_equal(transform.apply_image(image), np.stack([expected] * 3, axis=2))


@pytest.mark.parametrize(("dtype", "ignore"), [(np.uint8, -1), (np.uint8, 300), (np.int16, 255), (np.int64, -1)])
def test_padding_value_is_kept_for_all_label_dtypes(dtype, ignore):
    label = np.full((2, 3), 200, dtype)
    padded = CropPad(0, 0, (2, 3), (4, 3), 0, ignore).apply_label(label)
    np.testing.assert_array_equal(padded, [[ignore] * 3, [200] * 3, [200] * 3, [ignore] * 3])
    rotated = Rotate(45.0, 0, ignore).apply_label(np.full((9, 9), 200, dtype))
    assert (rotated[0, 0], rotated[4, 4]) == (ignore, 200)


def test_flip_reverses_columns():
    label = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(HorizontalFlip(True).apply_label(label), [[2, 1, 0], [5, 4, 3]])
    image = np.arange(18).reshape(2, 3, 3).astype(np.uint8)
    np.testing.assert_array_equal(HorizontalFlip(True).apply_image(image), image[:, ::-1])
    assert HorizontalFlip(False).apply_image(image) is image


@pytest.mark.parametrize("degrees", [-180, -90, 90, 180])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.int64])
def test_rotation_by_multiples_of_90_degrees(degrees, dtype):
    label = np.random.default_rng(0).integers(-50 if dtype != np.uint8 else 0, 100, (12, 12)).astype(dtype)
    rotated = Rotate(degrees, 0, 100).apply_label(label)
    assert rotated.dtype == dtype
    np.testing.assert_array_equal(rotated, np.rot90(label, degrees // 90))
    image = np.random.default_rng(1).integers(0, 256, (12, 12, 3)).astype(np.uint8)
    np.testing.assert_array_equal(Rotate(degrees, 0, 255).apply_image(image), np.rot90(image, degrees // 90))


@pytest.mark.parametrize("degrees", [-33.0, 5.0, 71.5])
def test_rotation_matches_its_definition(degrees):
    """Output pixels have the values of a smooth image at their source positions; labels, of the nearest pixel."""
    height, width = 60, 80
    y, x = np.mgrid[:height, :width].astype(float)
    angle = np.deg2rad(degrees)
    center = np.array([(height - 1) / 2, (width - 1) / 2])
    # Source position of the pixel (y, x): counter-clockwise, with the y axis pointing down.
    source_y = center[0] + np.cos(angle) * (y - center[0]) + np.sin(angle) * (x - center[1])
    source_x = center[1] - np.sin(angle) * (y - center[0]) + np.cos(angle) * (x - center[1])
    is_inside = (source_y >= 0) & (source_y <= height - 1) & (source_x >= 0) & (source_x <= width - 1)
    is_outside = (source_y < -1) | (source_y > height) | (source_x < -1) | (source_x > width)
    rotate = Rotate(degrees, 7, 255)

    def intensity(rows, columns):
        return 120 + 0.9 * rows - 0.6 * columns

    image = np.repeat(np.rint(intensity(y, x)).astype(np.uint8)[..., None], 3, axis=2)
    rotated = rotate.apply_image(image)
    assert np.abs(rotated[is_inside] - intensity(source_y, source_x)[is_inside, None]).max() < 1.1
    assert (rotated[is_outside] == 7).all()

    label = np.arange(height * width).reshape(height, width)
    rotated = rotate.apply_label(label)
    assert (rotated[is_outside] == 255).all()
    off_y, off_x = rotated[is_inside] // width - source_y[is_inside], rotated[is_inside] % width - source_x[is_inside]
    assert max(np.abs(off_y).max(), np.abs(off_x).max()) < 0.5 + 1 / 16  # OpenCV quantizes source positions


def test_image_and_label_rotate_together():
    label = cv2.circle(np.zeros((64, 96), np.uint8), (70, 20), 9, 1, thickness=-1)
    rotate = Rotate(28.0, 0, 255)
    image = rotate.apply_image(np.repeat(label[..., None] * 200, 3, axis=2))[..., 0]
    assert np.mean((image > 100) != (rotate.apply_label(label) == 1)) < 0.002


def test_transforms_are_hashable_values():
    assert CropPad(0, 1, (2, 3), (4, 5), 0, 255) == CropPad(0, 1, (2, 3), (4, 5), 0, 255)
    assert len({Resize(1, 2), Resize(1, 2), HorizontalFlip(True), Rotate(1.0, 0, 255)}) == 3
