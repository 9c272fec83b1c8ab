"""Pixels of new images: arrays, tensors, PIL images and files."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from dl_lib.data.errors import DataError, InvalidSampleError, UnreadableFileError
from dl_lib.prediction.pixels import WHITE, as_rgb, checked_color, read_rgb
from tests.helpers.image_files import COLOR, GRAY, encoded, exif, png, with_palette, write

BACKGROUND = (10, 200, 30)
ALPHA = np.random.default_rng(0).integers(0, 256, GRAY.shape).astype(np.uint8)
RGBA = np.dstack([COLOR, ALPHA])
REPEATED = np.repeat(GRAY[..., None], 3, axis=2)
# https://www.cipa.jp/std/documents/e/DC-X008-Translation-2019-E.pdf, orientation: the stored pixels of an upright image
STORED = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright),
    7: lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


def over(color_HWC, alpha_HW):
    """Return colors in front of the background."""
    ratio = alpha_HW[..., None] / 255
    return ratio * color_HWC + (1 - ratio) * np.array(BACKGROUND)


def pixels_of(image):
    pixels = as_rgb(image, name="image 0", background=BACKGROUND)
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous and pixels.flags.writeable
    return pixels


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (COLOR, COLOR),
        (COLOR[:1, :1], COLOR[:1, :1]),
        (COLOR[::-2, ::3], COLOR[::-2, ::3]),
        (GRAY, REPEATED),
        (GRAY[..., None], REPEATED),
        (torch.tensor(COLOR).permute(2, 0, 1), COLOR),
        (torch.tensor(GRAY), REPEATED),
        (torch.tensor(GRAY)[None], REPEATED),
        (Image.fromarray(COLOR), COLOR),
        (Image.fromarray(GRAY), REPEATED),
        (Image.fromarray(GRAY > 100), np.where(REPEATED > 100, 255, 0)),
    ],
)
def test_images_in_memory_become_rgb(image, expected):
    np.testing.assert_array_equal(pixels_of(image), expected)


@pytest.mark.parametrize("color", ["white", "abc", (0.5, 0.5, 0.5), (300, 0, 0), (0, -1, 0), (1, 2), 255, None])
def test_invalid_backgrounds_are_refused(color):
    with pytest.raises(ValueError, match=r"^background must be a color \(red, green, blue\).* Received: background="):
        checked_color(color)


@pytest.mark.parametrize("color", [BACKGROUND, list(BACKGROUND), np.array(BACKGROUND, np.uint8)])
def test_a_background_is_three_integers(color):
    assert checked_color(color) == BACKGROUND


@pytest.mark.parametrize(
    ("image", "color", "alpha"),
    [
        (RGBA, COLOR, ALPHA),
        (torch.tensor(RGBA).permute(2, 0, 1), COLOR, ALPHA),
        (Image.fromarray(RGBA), COLOR, ALPHA),
        (Image.merge("LA", [Image.fromarray(GRAY), Image.fromarray(ALPHA)]), REPEATED, ALPHA),
    ],
)
def test_transparent_pixels_show_the_background(image, color, alpha, tmp_path):
    np.testing.assert_allclose(pixels_of(image), over(color, alpha), atol=1)
    if isinstance(image, Image.Image):
        path = write(tmp_path / "image.png", encoded(image))
        np.testing.assert_array_equal(read_rgb(path, background=BACKGROUND), pixels_of(image))


def test_transparent_palette_entries_and_colors_show_the_background(tmp_path):
    palette = with_palette(GRAY)
    color = np.asarray(palette.convert("RGB"))
    index = int(GRAY[5, 5])
    for image, transparent in ((palette, index), (Image.fromarray(COLOR), tuple(map(int, COLOR[5, 5])))):
        path = write(tmp_path / "image.png", encoded(image, transparency=transparent))
        is_clear = (index == GRAY) if image is palette else (COLOR[5, 5] == COLOR).all(axis=2)
        expected = np.where(is_clear[..., None], BACKGROUND, color if image is palette else COLOR)
        np.testing.assert_array_equal(read_rgb(path, background=BACKGROUND), expected)
    assert WHITE == (255, 255, 255)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied_to_files_and_pil_images(tmp_path, kind, orientation):
    settings = {"lossless": True} if kind == "WEBP" else {}
    stored = np.ascontiguousarray(STORED[orientation](COLOR))
    path = write(tmp_path / "image", encoded(stored, kind, exif=exif(orientation), **settings))
    np.testing.assert_array_equal(read_rgb(path, background=WHITE), COLOR)
    with Image.open(path) as image:
        np.testing.assert_array_equal(pixels_of(image), COLOR)


def test_exif_orientation_of_a_jpeg(tmp_path):
    data = encoded(np.ascontiguousarray(STORED[6](COLOR)), "JPEG", quality=95, subsampling=0, exif=exif(6))
    found = read_rgb(write(tmp_path / "photo.jpg", data), background=WHITE)
    assert np.abs(found.astype(int) - COLOR).mean() < 5


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (COLOR / 255, r"^image 0: values must be uint8, 0\.\.255; convert .*Received: dtype=float64$"),
        (torch.rand(3, 4, 4), r"Received: dtype=torch\.float32$"),
        (torch.rand(3, 4, 4).bfloat16(), r"Received: dtype=torch\.bfloat16$"),
        (GRAY.astype(np.uint16), r"Received: dtype=uint16$"),
        (COLOR[None], r"pass several images as a list\. Received: shape=\(1, 37, 53, 3\)$"),
        (torch.tensor(COLOR), r"must have shape \(channels, H, W\).* Received: shape=\(37, 53, 3\)$"),
        (COLOR.transpose(2, 0, 1), r"must have shape \(H, W, channels\).* Received: shape=\(3, 37, 53\)$"),
        (COLOR[..., :2], r"with 1, 3 or 4 channels.*Received: shape=\(37, 53, 2\)$"),
        (COLOR[:0], r"Received: shape=\(0, 53, 3\)$"),
        (Image.new("RGB", (0, 5)), r"at least one pixel\. Received: size=\(0, 5\)$"),
        (Image.fromarray(GRAY.astype(np.uint16)), r"8 bits per channel; convert it\. Received: Pillow mode 'I;16'$"),
        (Image.new("CMYK", (5, 5)), r"Received: Pillow mode 'CMYK'$"),
        (Image.new("F", (5, 5)), r"Received: Pillow mode 'F'$"),
    ],
)
def test_other_values_and_shapes_are_refused(image, problem):
    with pytest.raises((InvalidSampleError, UnreadableFileError), match=problem):
        pixels_of(image)


def test_pil_images_of_damaged_files_are_refused():
    image = Image.open(io.BytesIO(encoded(COLOR, "JPEG")[:-200]))
    with pytest.raises(UnreadableFileError, match=r"^image 0 is damaged or truncated"):
        pixels_of(image)


@pytest.mark.parametrize(
    "data",
    [
        png(16, 2, [bytes(6 * 4)] * 3),
        encoded(Image.new("CMYK", (5, 5)), "TIFF"),
        encoded(Image.new("CMYK", (5, 5)), "JPEG"),
        png(8, 2, [bytes(30)], size=(30_000, 30_000)),  # a decompression bomb
        b"text",
        b"",
    ],
)
def test_files_with_other_pixels_are_refused(tmp_path, data):
    with pytest.raises(DataError, match=r"^\S+/image\.png .*Received: "):
        read_rgb(write(tmp_path / "image.png", data), background=WHITE)


def test_color_profiles_are_ignored(tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    path = write(tmp_path / "image.png", encoded(COLOR, icc_profile=profile))
    np.testing.assert_array_equal(read_rgb(path, background=WHITE), COLOR)
