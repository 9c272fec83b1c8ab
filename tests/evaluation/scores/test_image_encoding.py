"""Reduced images and class indices: sizes, aspect ratio, pixels and encodings."""

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from dl_lib.evaluation.scores.image_encoding import (
    decode_class_indices,
    encode_class_indices,
    encode_jpeg,
    ignored_index,
    reduce_class_indices,
    reduce_image,
    reduced_size,
)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((1024, 2048), (64, 128)),
        ((500, 375), (128, 96)),
        ((100, 128), (100, 128)),
        ((5, 10_000), (1, 128)),
        ((1, 1),) * 2,
    ],
)
def test_reduced_size(shape, size):
    assert reduced_size(torch.zeros(shape), longest_side=128) == size


def test_pixels_are_averages_and_class_indices_are_not():
    image = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    expected = image.reshape(2, 2, 3, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(reduce_image(image, size=(2, 3)), expected, atol=0.5)
    indices = torch.arange(24).view(4, 6)
    assert reduce_class_indices(indices, size=(2, 3)).tolist() == [[0, 2, 4], [12, 14, 16]]
    assert reduce_class_indices(indices, size=(4, 6)).tolist() == indices.tolist()
    odd = torch.randint(0, 9, (37, 53), generator=torch.Generator().manual_seed(0)).byte()
    reference = cv2.resize(odd.numpy(), (20, 11), interpolation=cv2.INTER_NEAREST)
    np.testing.assert_array_equal(reduce_class_indices(odd, size=(11, 20)), reference)


@pytest.mark.parametrize(("num_classes", "dtype", "ignored"), [(255, np.uint8, 255), (256, np.uint16, 65535)])
def test_class_indices_survive_the_encoding(num_classes, dtype, ignored):
    assert ignored_index(num_classes) == ignored
    indices = np.array([[0, 1, num_classes - 1], [ignored, 2, 3]])
    decoded = decode_class_indices(encode_class_indices(indices, num_classes=num_classes))
    assert decoded.dtype == dtype
    np.testing.assert_array_equal(decoded, indices)


def test_jpegs_have_the_colors_of_the_image():
    image = np.full((20, 30, 3), (200, 100, 20), np.uint8)
    with Image.open(io.BytesIO(encode_jpeg(image))) as decoded:
        assert (decoded.format, decoded.size) == ("JPEG", (30, 20))
        np.testing.assert_allclose(np.asarray(decoded), np.full((20, 30, 3), (20, 100, 200)), atol=3)


def test_other_files_are_refused():
    for mode, size in (("RGB", (4, 4)), ("P", (4, 4)), ("L", (4, 385))):
        Image.new(mode, size).save(file := io.BytesIO(), "PNG")
        with pytest.raises(ValueError, match=f"PNG has mode {mode} and size"):
            decode_class_indices(file.getvalue())
    with pytest.raises(OSError, match="cannot identify"):
        decode_class_indices(encode_jpeg(np.zeros((4, 4, 3), np.uint8)))
