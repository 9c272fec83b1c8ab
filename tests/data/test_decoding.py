"""Decoding of images, compared with Pillow and OpenCV, and unsupported files."""

import io
import math
import re

import cv2
import numpy as np
import pytest
from PIL import Image

from dl_lib.data import decoding
from dl_lib.data.errors import UnreadableFileError
from dl_lib.data.orientation import read_orientation
from dl_lib.data.reading import read_image, read_image_size, read_label
from tests.helpers.image_files import COLOR, GRAY, SIZE, encoded, exif, interlaced_png, png, write

LOSSLESS = {
    "rgb.png": (Image.fromarray(COLOR), {}),
    "gray.png": (Image.fromarray(GRAY), {}),
    "palette.png": (Image.fromarray(COLOR).quantize(200), {}),
    "palette_of_2_bits.png": (Image.fromarray(COLOR).quantize(4), {"bits": 2}),
    "black_and_white.png": (Image.fromarray(GRAY > 100), {}),
    "opaque.png": (Image.fromarray(COLOR).convert("RGBA"), {}),
    "rgb.bmp": (Image.fromarray(COLOR), {}),
    "rgb.tiff": (Image.fromarray(COLOR), {"compression": "tiff_lzw"}),
    "rgb.webp": (Image.fromarray(COLOR), {"lossless": True}),
    "gray.pgm": (Image.fromarray(GRAY), {}),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_images_of_all_formats_are_converted_to_rgb(tmp_path, name):
    source, settings = LOSSLESS[name]
    source.save(tmp_path / name, **settings)
    image = read_image(tmp_path / name)
    assert (image.dtype, image.shape) == (np.uint8, (*SIZE, 3))
    np.testing.assert_array_equal(image, np.asarray(source.convert("RGB")))
    image[:] = 0  # the array is writable


JPEGS = {
    "4:2:0": (COLOR, {"quality": 75}),
    "4:4:4": (COLOR, {"quality": 95, "subsampling": 0}),
    "progressive": (COLOR, {"quality": 80, "progressive": True}),
    "gray": (GRAY, {"quality": 90}),
}


@pytest.mark.parametrize("kind", [*JPEGS, "png"])
def test_opencv_and_pillow_decode_to_the_same_pixels(tmp_path, kind):
    pixels, settings = JPEGS.get(kind, (COLOR, {}))
    path = tmp_path / ("image.png" if kind == "png" else "image.jpg")
    Image.fromarray(pixels).save(path, **settings)
    image = read_image(path)
    np.testing.assert_array_equal(image, np.asarray(Image.open(path).convert("RGB")))
    np.testing.assert_array_equal(image, cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1])


@pytest.mark.parametrize(("read", "pixels"), [(read_image, COLOR), (read_image, GRAY), (read_label, GRAY)])
def test_both_png_decoders_agree(tmp_path, monkeypatch, read, pixels):
    """kornia_rs decodes PNGs with 8 bits; OpenCV those that are large, with equal pixels."""
    calls, imdecode = [], cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda *arguments: calls.append(arguments) or imdecode(*arguments))
    path, data, num_pixels = tmp_path / "image.png", encoded(pixels), math.prod(SIZE)
    expected = np.asarray(Image.fromarray(pixels).convert("RGB")) if read is read_image else pixels
    for content, limit, num_calls in (
        (data, num_pixels, 0),
        (interlaced_png(pixels), num_pixels, 0),
        (data, num_pixels - 1, 1),
    ):
        monkeypatch.setattr(decoding, "_MAX_KORNIA_PIXELS", limit)
        image = read(write(path, content))
        np.testing.assert_array_equal(image, expected)
        assert image.flags.c_contiguous and image.flags.writeable
        assert len(calls) == num_calls


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize(
    ("ending", "options"),
    [("jpg", {}), ("png", {}), ("webp", {"lossless": True}), ("tif", {}), ("tif", {"compression": "tiff_lzw"})],
)
def test_exif_orientation_is_ignored(tmp_path, ending, options, orientation):
    """Pillow turns TIFFs upright, but no other format."""
    upright, path = tmp_path / f"upright.{ending}", tmp_path / f"image.{ending}"
    Image.fromarray(COLOR).save(upright, **options)
    Image.fromarray(COLOR).save(path, exif=exif(orientation), **options)
    np.testing.assert_array_equal(read_image(path), read_image(upright))
    assert read_image_size(path) == SIZE
    assert (read_orientation(path), read_orientation(upright), read_orientation(tmp_path)) == (orientation, 1, 1)


def colored_key():
    """Encode a PNG in which one color marks transparent pixels."""
    return encoded(COLOR, transparency=tuple(COLOR[0, 0].tolist()))


ALPHA = np.dstack([COLOR, np.full(SIZE, 255, np.uint8)])
ALPHA[3, 4, 3] = 254
INVALID_IMAGES = {
    "transparent.png": (lambda: encoded(ALPHA), "lowest alpha=254"),
    "color_key.png": (colored_key, "lowest alpha=0"),
    "gray_alpha.png": (lambda: encoded(Image.fromarray(ALPHA).convert("LA")), "lowest alpha=254"),
    "rgb16.png": (lambda: cv2.imencode(".png", COLOR.astype(np.uint16) * 257)[1].tobytes(), "16 bits per channel"),
    "gray16.png": (lambda: encoded(GRAY.astype(np.uint16) * 257), "16 bits per channel"),
    "rgb16.tiff": (lambda: cv2.imencode(".tiff", COLOR.astype(np.uint16) * 257)[1].tobytes(), "16 bits per channel"),
    "float.tiff": (lambda: encoded(GRAY.astype(np.float32), "TIFF"), "mode 'F'"),
    "cmyk.jpg": (lambda: encoded(Image.fromarray(COLOR).convert("CMYK"), "JPEG"), "mode 'CMYK'"),
    "text.jpg": (lambda: b"not found", "9 bytes starting with b'not foun'"),
    "empty.png": (lambda: b"", "0 bytes"),
    "no_palette.png": (lambda: png(8, 3, [bytes(4)]), "AssertionError"),
}


@pytest.mark.parametrize("name", INVALID_IMAGES)
def test_unsupported_image_raises_with_its_path(tmp_path, name):
    make, received = INVALID_IMAGES[name]
    path = write(tmp_path / name, make())
    message = rf"^{re.escape(str(path))} (?=.*Received: ).*{re.escape(received)}"
    with pytest.raises(UnreadableFileError, match=message):
        read_image(path)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("mode", ["P", "RGB"])
def test_animation_and_stack_raise(tmp_path, kind, mode):
    frames = [Image.fromarray(pixels).convert(mode) for pixels in (COLOR, 255 - COLOR)]
    path = write(tmp_path / "image", encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
    with pytest.raises(UnreadableFileError, match=rf"image must contain one image, .* Received: .*{kind}"):
        read_image(path)


def test_smaller_copies_in_a_tiff_are_ignored(tmp_path):
    copy = Image.fromarray(COLOR).resize((9, 7))
    copy.encoderinfo = {"tiffinfo": {254: 1}}
    data = encoded(COLOR, "TIFF", save_all=True, append_images=[copy])
    assert Image.open(io.BytesIO(data)).n_frames == 2
    np.testing.assert_array_equal(read_image(write(tmp_path / "image.tif", data)), COLOR)


@pytest.mark.parametrize("name", ["rgb.png", "palette_of_2_bits.png", "rgb.jpg", "rgb.bmp", "rgb.tiff"])
def test_truncated_file_raises_unless_all_pixels_are_present(tmp_path, name):
    """Without an error, only padding or a checksum is missing and all pixels are present."""
    source, settings = LOSSLESS.get(name, (Image.fromarray(COLOR), {}))
    source.save(tmp_path / name, **settings)
    whole, pixels = (tmp_path / name).read_bytes(), read_image(tmp_path / name)
    num_errors = 0
    for length in [*range(1, len(whole), len(whole) // 23), *range(len(whole) - 15, len(whole))]:
        try:
            image = read_image(write(tmp_path / name, whole[:length]))
        except UnreadableFileError as error:
            assert re.search(rf"{name} is (damaged or truncated|not an image).*Received: ", str(error))
            num_errors += 1
        else:
            assert length >= len(whole) - 20  # the last chunk of a PNG and two checksums
            np.testing.assert_array_equal(image, pixels)
    assert num_errors >= 20


def test_corrupted_byte_is_detected(tmp_path):
    for source in (Image.fromarray(COLOR), Image.fromarray(COLOR).quantize(200)):
        data = bytearray(encoded(source))
        data[len(data) // 2] ^= 0xFF
        with pytest.raises(UnreadableFileError, match="damaged"):
            read_image(write(tmp_path / "image.png", data))
