import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dl_lib.data.transforms import BACKENDS, Resize

SIDE = st.integers(1, 40)


def picture(height, width):
    return np.random.default_rng([height, width]).integers(0, 256, (height, width, 3)).astype(np.uint8)


@given(old=st.tuples(SIDE, SIDE), new=st.tuples(SIDE, SIDE), dtype=st.sampled_from([np.uint8, np.int16, np.int64]))
@settings(max_examples=60, deadline=None)
def test_labels_are_the_pixels_under_the_new_centres(old, new, dtype):
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


def weights(old, new, *, antialias):
    """(new, old) shares of each old pixel in each new one: a triangle about the new pixel's centre."""
    reach = max(old / new, 1) if antialias else 1
    centres = (np.arange(new) + 0.5) * old / new
    if antialias:
        shares = np.maximum(0, 1 - np.abs(np.arange(old) + 0.5 - centres[:, None]) / reach)
        return shares / shares.sum(axis=1, keepdims=True)
    centres = np.clip(centres, 0.5, old - 0.5)  # beyond the outermost centres, the edge goes on
    return np.maximum(0, 1 - np.abs(np.arange(old) + 0.5 - centres[:, None]))


@given(old=st.tuples(SIDE, SIDE), new=st.tuples(SIDE, SIDE), backend=st.sampled_from(sorted(BACKENDS)))
@settings(max_examples=80, deadline=None)
def test_images_are_bilinear(old, new, backend):
    image = picture(*old)
    rows, columns = (weights(a, b, antialias=backend == "pil") for a, b in zip(old, new, strict=True))
    expected = np.einsum("ir,jc,rck->ijk", rows, columns, image.astype(float))
    result = Resize(*new, backend).apply_image(image)
    assert result.dtype == np.uint8
    assert np.abs(result - expected).max() < 1.6  # weights of 8 bits, and each of two directions rounded


def test_backends_are_those_of_the_libraries():
    image = picture(31, 47)
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
def sides(draw, *, most=400):
    """Lengths before and after, in some ratio of small or large numbers, and a window of the latter."""
    terms = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)) | st.tuples(st.integers(1, 300), st.integers(1, 300)))
    factor = draw(st.integers(1, max(1, most // max(terms))))
    old, new = (term * factor for term in terms)
    start = draw(st.integers(0, new - 1))
    return old, new, slice(start, draw(st.integers(start + 1, new)))


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@given(vertical=sides(), horizontal=sides())
@settings(max_examples=150, deadline=None)
def test_a_window_has_the_pixels_of_the_whole(backend, vertical, horizontal):
    (old_height, new_height, rows), (old_width, new_width, columns) = vertical, horizontal
    resize = Resize(new_height, new_width, backend)
    image = picture(old_height, old_width)
    window = resize.image_window(image, rows, columns)
    np.testing.assert_array_equal(window, resize.apply_image(image)[rows, columns])
    label = image[..., 0].astype(np.int16)
    window = resize.label_window(label, rows, columns)
    np.testing.assert_array_equal(window, resize.apply_label(label)[rows, columns])


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@pytest.mark.parametrize("shorter", [512, 768, 1024, 1280, 1536, 2048])
def test_windows_at_the_size_of_cityscapes(shorter, backend):
    image = picture(1024, 2048)
    resize = Resize(shorter, 2 * shorter, backend)
    whole = resize.apply_image(image)
    draws = np.random.default_rng(shorter)
    side = min(shorter, 768)
    for _ in range(3):
        top, left = int(draws.integers(shorter - side + 1)), int(draws.integers(2 * shorter - 768 + 1))
        rows, columns = slice(top, top + side), slice(left, left + 768)
        np.testing.assert_array_equal(resize.image_window(image, rows, columns), whole[rows, columns])


@pytest.mark.parametrize("backend", sorted(BACKENDS))
@pytest.mark.parametrize(("old", "new"), [(1974, 4606), (5248, 4920), (7999, 2 * 7999), (9984, 16000)])
def test_windows_of_very_wide_images(old, new, backend):
    """Where pixels are placed with 24 bits, as opencv's plain bilinear does, some of these are off."""
    image = picture(2, old)
    resize = Resize(2, new, backend)
    whole = resize.apply_image(image)
    for start in np.linspace(0, new - 300, 9).astype(int).tolist():
        columns = slice(start, start + 300)
        np.testing.assert_array_equal(resize.image_window(image, slice(0, 2), columns), whole[:, columns])


def test_a_simple_ratio_reads_the_window_only():
    """3 : 2, so that rows 300..400 stand over 200..267, and one block of two more on each side."""
    image = picture(1024, 1024)
    dark = image.copy()
    dark[:198], dark[270:] = 0, 0
    dark[:, :98], dark[:, 136:] = 0, 0
    resize = Resize(1536, 1536)
    window = slice(300, 400), slice(150, 200)
    np.testing.assert_array_equal(resize.image_window(dark, *window), resize.image_window(image, *window))
