"""Decoding, against Pillow and opencv, and every kind of file that must not get through."""

import io
import re
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from dl_lib.data.errors import MissingDataError, UnreadableFileError
from dl_lib.data.reading import read_image, read_label

SIZE = (37, 53)
RNG = np.random.default_rng(0)
COLOR = cv2.resize(RNG.integers(0, 256, (6, 8, 3)).astype(np.uint8), SIZE[::-1], interpolation=cv2.INTER_CUBIC)
GREY = COLOR[..., 1].copy()


def encoded(picture, kind="PNG", **settings):
    file = io.BytesIO()
    picture.save(file, kind, **settings)
    return file.getvalue()


def written(path, data):
    path.write_bytes(data)
    return path


def png(bits, color_type, rows):
    """A PNG from rows of packed bytes, of kinds that no library writes."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", len(rows[0]) * 8 // bits, len(rows), bits, color_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


LOSSLESS = {
    "rgb.png": (Image.fromarray(COLOR), {}),
    "grey.png": (Image.fromarray(GREY), {}),
    "palette.png": (Image.fromarray(COLOR).quantize(200), {}),
    "palette_of_2_bits.png": (Image.fromarray(COLOR).quantize(4), {"bits": 2}),
    "black_and_white.png": (Image.fromarray(GREY > 100), {}),
    "opaque.png": (Image.fromarray(COLOR).convert("RGBA"), {}),
    "rgb.bmp": (Image.fromarray(COLOR), {}),
    "rgb.tiff": (Image.fromarray(COLOR), {"compression": "tiff_lzw"}),
    "rgb.webp": (Image.fromarray(COLOR), {"lossless": True}),
    "grey.pgm": (Image.fromarray(GREY), {}),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_images_of_any_kind_are_rgb(tmp_path, name):
    picture, settings = LOSSLESS[name]
    picture.save(tmp_path / name, **settings)
    image = read_image(tmp_path / name)
    assert (image.dtype, image.shape) == (np.uint8, (*SIZE, 3))
    np.testing.assert_array_equal(image, np.asarray(picture.convert("RGB")))
    image[:] = 0  # is the reader's own


JPEGS = {
    "4:2:0": (COLOR, {"quality": 75}),
    "4:4:4": (COLOR, {"quality": 95, "subsampling": 0}),
    "progressive": (COLOR, {"quality": 80, "progressive": True}),
    "grey": (GREY, {"quality": 90}),
}


@pytest.mark.parametrize("kind", [*JPEGS, "png"])
def test_opencv_and_pillow_decode_to_the_same_pixels(tmp_path, kind):
    pixels, settings = JPEGS.get(kind, (COLOR, {}))
    path = tmp_path / ("image.png" if kind == "png" else "image.jpg")
    Image.fromarray(pixels).save(path, **settings)
    image = read_image(path)
    np.testing.assert_array_equal(image, np.asarray(Image.open(path).convert("RGB")))
    np.testing.assert_array_equal(image, cv2.imread(str(path), cv2.IMREAD_COLOR)[..., ::-1])


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_orientation_tags_are_ignored(tmp_path, ending):
    exif = Image.Exif()
    exif[0x0112] = 6  # on its side
    path = tmp_path / f"image.{ending}"
    Image.fromarray(COLOR).save(path, exif=exif)
    assert cv2.imread(str(path)).shape == (*SIZE[::-1], 3)  # the tag is there
    assert read_image(path).shape == (*SIZE, 3)
    Image.fromarray(GREY).save(tmp_path / "label.png", exif=exif)
    np.testing.assert_array_equal(read_label(tmp_path / "label.png"), GREY)


def colored_key():
    """A PNG in which one colour stands for transparent pixels."""
    return encoded(Image.fromarray(COLOR), transparency=tuple(COLOR[0, 0].tolist()))


ALPHA = np.dstack([COLOR, np.full(SIZE, 255, np.uint8)])
ALPHA[3, 4, 3] = 254
UNFIT_IMAGES = {
    "transparent.png": (lambda: encoded(Image.fromarray(ALPHA)), "lowest alpha=254"),
    "color_key.png": (colored_key, "lowest alpha=0"),
    "grey_alpha.png": (lambda: encoded(Image.fromarray(ALPHA).convert("LA")), "lowest alpha=254"),
    "rgb16.png": (lambda: cv2.imencode(".png", COLOR.astype(np.uint16) * 257)[1].tobytes(), "16 bits per channel"),
    "grey16.png": (lambda: encoded(Image.fromarray(GREY.astype(np.uint16) * 257)), "16 bits per channel"),
    "rgb16.tiff": (lambda: cv2.imencode(".tiff", COLOR.astype(np.uint16) * 257)[1].tobytes(), "16 bits per channel"),
    "float.tiff": (lambda: encoded(Image.fromarray(GREY.astype(np.float32)), "TIFF"), "mode 'F'"),
    "cmyk.jpg": (lambda: encoded(Image.fromarray(COLOR).convert("CMYK"), "JPEG"), "mode 'CMYK'"),
    "text.jpg": (lambda: b"<html>not found</html>", "22 bytes that begin with b'<html>no'"),
    "empty.png": (lambda: b"", "0 bytes"),
}


@pytest.mark.parametrize("name", UNFIT_IMAGES)
def test_what_is_no_opaque_8_bit_image_is_named(tmp_path, name):
    make, received = UNFIT_IMAGES[name]
    path = written(tmp_path / name, make())
    with pytest.raises(UnreadableFileError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert received in message
    assert "Received: " in message


@pytest.mark.parametrize("name", ["rgb.png", "palette_of_2_bits.png", "rgb.jpg", "rgb.bmp", "rgb.tiff"])
def test_a_file_that_was_cut_off_is_never_half_an_image(tmp_path, name):
    """Either it is refused, or nothing but padding or a checksum was lost and all pixels are there."""
    picture, settings = LOSSLESS.get(name, (Image.fromarray(COLOR), {}))
    picture.save(tmp_path / name, **settings)
    whole, pixels = (tmp_path / name).read_bytes(), read_image(tmp_path / name)
    refused = 0
    for length in [*range(1, len(whole), len(whole) // 23), *range(len(whole) - 15, len(whole))]:
        try:
            image = read_image(written(tmp_path / name, whole[:length]))
        except UnreadableFileError as error:
            assert re.search(rf"{name} is (damaged or cut off|no image).*Received: ", str(error))
            refused += 1
        else:
            assert length >= len(whole) - 20  # the last chunk of a PNG and two checksums
            np.testing.assert_array_equal(image, pixels)
    assert refused >= 20


def test_a_file_with_a_wrong_byte_in_it_is_noticed(tmp_path):
    for picture in (Image.fromarray(COLOR), Image.fromarray(COLOR).quantize(200)):
        data = bytearray(encoded(picture))
        data[len(data) // 2] ^= 0xFF
        with pytest.raises(UnreadableFileError, match="damaged"):
            read_image(written(tmp_path / "image.png", data))


@pytest.mark.parametrize("read", [read_image, read_label])
def test_a_file_that_is_not_there_is_named(tmp_path, read):
    with pytest.raises(MissingDataError, match=r"no such file\. Received: path='.*absent\.png'$"):
        read(tmp_path / "absent.png")
    with pytest.raises(UnreadableFileError, match=r"cannot be read\. Received: Is a directory$"):
        read(tmp_path)


IDS = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE)
PALETTE = RNG.permutation(256 * 3).astype(np.uint8)[:768].tobytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_values_are_ids(tmp_path, dtype):
    ids = (IDS * 33 % 65536).astype(dtype)
    Image.fromarray(ids).save(tmp_path / "label.png")
    label = read_label(tmp_path / "label.png")
    assert label.dtype == dtype
    np.testing.assert_array_equal(label, ids)
    label[:] = 0  # is the reader's own


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_indices_into_a_palette_are_ids(tmp_path, bits):
    ids = (IDS % 2**bits).astype(np.uint8)
    picture = Image.fromarray(ids)
    picture.putpalette(PALETTE)
    picture.save(tmp_path / "label.png", bits=bits, transparency=0)
    assert (tmp_path / "label.png").read_bytes()[24:26] == bytes([bits, 3])
    label = read_label(tmp_path / "label.png")
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, ids)


UNFIT_LABELS = {
    "colors.png": (lambda: encoded(Image.fromarray(COLOR)), "PNG colour type 2"),
    "alpha.png": (lambda: encoded(Image.fromarray(COLOR).convert("RGBA")), "PNG colour type 6"),
    "grey_alpha.png": (lambda: encoded(Image.fromarray(COLOR).convert("LA")), "PNG colour type 4"),
    "grey1.png": (lambda: png(1, 0, [b"\x5a", b"\xff"]), "bits=1"),
    "grey2.png": (lambda: png(2, 0, [b"\x5a", b"\xff"]), "bits=2"),
    "grey4.png": (lambda: png(4, 0, [b"\x5a", b"\xff"]), "bits=4"),
    "label.jpg": (lambda: encoded(Image.fromarray(GREY), "JPEG"), "a file that begins with b'"),
    "empty.png": (lambda: b"", "0 bytes"),
    "cut.png": (lambda: encoded(Image.fromarray(GREY))[:-20], "a PNG of "),
    "beginning.png": (lambda: encoded(Image.fromarray(GREY))[:20], "a file that begins with b'"),
    "palette.png": (lambda: encoded(Image.fromarray(COLOR).quantize(9))[:-200], "truncated"),
}


@pytest.mark.parametrize("name", UNFIT_LABELS)
def test_what_does_not_hold_one_id_per_pixel_is_named(tmp_path, name):
    make, received = UNFIT_LABELS[name]
    path = written(tmp_path / name, make())
    with pytest.raises(UnreadableFileError) as caught:
        read_label(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert received in message.partition("Received: ")[2]
