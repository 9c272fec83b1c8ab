import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dl_lib.data.transforms import BACKENDS, Resize

SIDE = st.integers(1, 40)


def random_image(height, width):
    return np.random.default_rng([height, width]).integers(0, 256, (height, width, 3)).astype(np.uint8)


@given(old=st.tuples(SIDE, SIDE), new=st.tuples(SIDE, SIDE), dtype=st.sampled_from([np.uint8, np.int16, np.int64]))
@settings(max_examples=60, deadline=None)
def test_label_is_the_input_pixel_at_the_output_center(old, new, dtype):
    label = np.random.default_rng(0).integers(0, 100, old).astype(dtype)
    result = Resize(*new).apply_label(label)
    assert result.dtype == dtype
    rows = [int(np.floor((2 * row + 1) * old[0] / (2 * new[0]))) for row in range(new[0])]
    columns = [int(np.floor((2 * column + 1) * old[1] / (2 * new[1]))) for column in range(new[1])]
    np.testing.assert_array_equal(result, [[label[row, column] for column in columns] for row in rows])


@given(old=st.tuples(SIDE, SIDE), factors=st.tuples(st.integers(1, 4), st.integers(1, 4)))
@settings(max_examples=30, deadline=None)
def test_label_upscaling_by_integers_repeats_pixels(old, factors):
    label = np.random.default_rng(1).integers(0, 256, old).astype(np.uint8)
    result = Resize(old[0] * factors[0], old[1] * factors[1]).apply_label(label)
    np.testing.assert_array_equal(result, label.repeat(factors[0], 0).repeat(factors[1], 1))


def weights(old, new, *, antialias):
    """Return the (new, old) interpolation weights: a triangle filter around each output pixel's center."""
    radius = max(old / new, 1) if antialias else 1
    centers = (np.arange(new) + 0.5) * old / new
    if antialias:
        values = np.maximum(0, 1 - np.abs(np.arange(old) + 0.5 - centers[:, None]) / radius)
        return values / values.sum(axis=1, keepdims=True)
    centers = np.clip(centers, 0.5, old - 0.5)  # the border is replicated
    return np.maximum(0, 1 - np.abs(np.arange(old) + 0.5 - centers[:, None]))


@given(old=st.tuples(SIDE, SIDE), new=st.tuples(SIDE, SIDE), backend=st.sampled_from(sorted(BACKENDS)))
@settings(max_examples=80, deadline=None)
def test_image_resize_is_bilinear(old, new, backend):
    image = random_image(*old)
    rows, columns = (weights(a, b, antialias=backend == "pil") for a, b in zip(old, new, strict=True))
    expected = np.einsum("ir,jc,rck->ijk", rows, columns, image.astype(float))
    result = Resize(*new, backend).apply_image(image)
    assert result.dtype == np.uint8
    assert np.abs(result - expected).max() < 1.6  # 8-bit weights, and rounding along both axes


def test_backends_match_their_libraries():
    image = random_image(31, 47)
    for height, width in ((20, 30), (62, 94), (31, 60)):
        np.testing.assert_array_equal(
            Resize(height, width, "pil").apply_image(image),
            np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)),
        )
        np.testing.assert_array_equal(
            Resize(height, width, "cv2").apply_image(image),
            cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR_EXACT),
        )


@st.composite
def sides(draw, *, max_px=400):
    """Input and output length, in a ratio of small or large numbers, and a window of the output."""
    terms = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)) | st.tuples(st.integers(1, 300), st.integers(1, 300)))
    factor = draw(st.integers(1, max(1, max_px // max(terms))))
    old, new = (term * factor for term in terms)
    start = draw(st.integers(0, new - 1))
    return old, new, slice(start, draw(st.integers(start + 1, new)))


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@given(vertical=sides(), horizontal=sides())
@settings(max_examples=150, deadline=None)
def test_window_equals_the_resized_image(backend, vertical, horizontal):
    (old_height, new_height, rows), (old_width, new_width, columns) = vertical, horizontal
    resize = Resize(new_height, new_width, backend)
    image = random_image(old_height, old_width)
    window = resize.image_window(image, rows, columns)
    np.testing.assert_array_equal(window, resize.apply_image(image)[rows, columns])
    label = image[..., 0].astype(np.int16)
    window = resize.label_window(label, rows, columns)
    np.testing.assert_array_equal(window, resize.apply_label(label)[rows, columns])


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@pytest.mark.parametrize("shorter", [512, 768, 1024, 1280, 1536, 2048])
def test_windows_at_cityscapes_size(shorter, backend):
    image = random_image(1024, 2048)
    resize = Resize(shorter, 2 * shorter, backend)
    whole = resize.apply_image(image)
    rng = np.random.default_rng(shorter)
    side = min(shorter, 768)
    for _ in range(3):
        top, left = int(rng.integers(shorter - side + 1)), int(rng.integers(2 * shorter - 768 + 1))
        rows, columns = slice(top, top + side), slice(left, left + 768)
        np.testing.assert_array_equal(resize.image_window(image, rows, columns), whole[rows, columns])


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@pytest.mark.parametrize(("old", "new"), [(1974, 4606), (5248, 4920), (7999, 2 * 7999), (9984, 16000)])
def test_windows_of_very_wide_images(old, new, backend):
    """OpenCV's plain bilinear interpolation, which computes positions with 24 bits, fails for some of these."""
    image = random_image(2, old)
    resize = Resize(2, new, backend)
    whole = resize.apply_image(image)
    for start in np.linspace(0, new - 300, 9).astype(int).tolist():
        columns = slice(start, start + 300)
        np.testing.assert_array_equal(resize.image_window(image, slice(0, 2), columns), whole[:, columns])


def test_simple_ratio_reads_only_the_window():
    """The ratio is 3 : 2: output rows 300..400 need input rows 200..267 plus one block of two on each side."""
    image = random_image(1024, 1024)
    masked = image.copy()
    masked[:198], masked[270:] = 0, 0
    masked[:, :98], masked[:, 136:] = 0, 0
    resize = Resize(1536, 1536)
    window = slice(300, 400), slice(150, 200)
    np.testing.assert_array_equal(resize.image_window(masked, *window), resize.image_window(image, *window))
