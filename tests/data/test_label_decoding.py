"""Decoding of label files in all formats, and unsupported files."""

import re
import struct

import cv2
import numpy as np
import pytest
from PIL import Image

from dl_lib.data.errors import ColorLabelError, MissingDataError, UnreadableFileError
from dl_lib.data.reading import read_color_label, read_label
from tests.helpers.image_files import COLOR, GRAY, PALETTE, SIZE, encoded, exif, npy, png, with_palette, write

ALPHA = np.dstack([COLOR, np.full(SIZE, 255, np.uint8)])
IDS = np.arange(SIZE[0] * SIZE[1]).reshape(SIZE)


def npy_header(text):
    """Encode a .npy file whose header is an arbitrary text, followed by 8 bytes."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + bytes(8)


ID_FILES = {  # file content and expected dtype
    "tiff": (lambda ids: encoded(ids.astype(np.uint8), "TIFF"), np.uint8),
    "tiff, lzw": (
        lambda ids: encoded(ids.astype(np.uint16), "TIFF", compression="tiff_lzw"),
        np.uint16,
    ),
    "tiff, OpenCV": (lambda ids: cv2.imencode(".tiff", ids.astype(np.uint16))[1].tobytes(), np.uint16),
    "tiff, 32 bits": (lambda ids: encoded(ids.astype(np.int32) - 9, "TIFF"), np.int16),
    "tiff, palette": (lambda ids: encoded(with_palette(ids.astype(np.uint8)), "TIFF"), np.uint8),
    "bmp": (lambda ids: encoded(ids.astype(np.uint8), "BMP"), np.uint8),
    "bmp, palette": (lambda ids: encoded(with_palette(ids.astype(np.uint8)), "BMP"), np.uint8),
    "npy": (lambda ids: npy(ids.astype(np.int64)), np.uint16),
    "npy, signed": (lambda ids: npy(ids.astype(np.int32) - 9), np.int16),
    "npy, big-endian": (lambda ids: npy(ids.astype(">u2"), version=(2, 0)), np.uint16),
    "npy, transposed": (lambda ids: npy(np.asfortranarray(ids.astype(np.uint8))), np.uint8),
    "npy, bool": (lambda ids: npy(ids.astype(bool)), np.uint8),
}


@pytest.mark.parametrize("kind", ID_FILES)
def test_ids_of_other_lossless_formats(tmp_path, kind):
    encode, dtype = ID_FILES[kind]
    ids = IDS % 256 if dtype == np.uint8 else IDS
    path = write(tmp_path / "label.any", encode(ids))  # the content decides, not the file name
    label = read_label(path)
    assert label.dtype == dtype
    np.testing.assert_array_equal(label, ids.astype(bool) if "bool" in kind else ids - 9 * (dtype == np.int16))
    label[:] = 0  # the array is writable


@pytest.mark.parametrize(
    "content",
    [
        lambda: encoded(COLOR),
        lambda: encoded(COLOR, "BMP"),
        lambda: encoded(COLOR, "TIFF", compression="tiff_deflate"),
        lambda: encoded(ALPHA),
    ],
)
def test_colors_of_labels(tmp_path, content):
    path = write(tmp_path / "label.png", content())
    np.testing.assert_array_equal(read_color_label(path), COLOR)
    with pytest.raises(ColorLabelError, match=r"label\.png must contain one id per pixel.*set COLOR_MAP"):
        read_label(path)


def test_colors_of_palettes_and_gray_values(tmp_path):
    path = write(tmp_path / "label.png", encoded(with_palette(GRAY)))
    np.testing.assert_array_equal(read_color_label(path), PALETTE[GRAY])
    np.testing.assert_array_equal(read_color_label(write(path, encoded(GRAY)))[..., 2], GRAY)
    with pytest.raises(UnreadableFileError, match=r"label files need a lossless format.*starting with b'"):
        read_color_label(write(path, encoded(COLOR, "JPEG")))
    with pytest.raises(UnreadableFileError, match=r"lossy compression.*compression='jpeg'"):
        read_color_label(write(path, encoded(COLOR, "TIFF", compression="jpeg")))


def test_missing_label_raises_with_its_path(tmp_path):
    for read in (read_label, read_color_label):
        with pytest.raises(MissingDataError, match=r"Received: path='.*absent\.png'$"):
            read(tmp_path / "absent.png")


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_exif_orientation_is_ignored(tmp_path, ending):
    Image.fromarray(GRAY).save(tmp_path / f"label.{ending}", exif=exif(6))  # rotated by 90 degrees
    np.testing.assert_array_equal(read_label(tmp_path / f"label.{ending}"), GRAY)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_values_are_ids(tmp_path, dtype):
    ids = (IDS * 33 % 65536).astype(dtype)
    Image.fromarray(ids).save(tmp_path / "label.png")
    label = read_label(tmp_path / "label.png")
    assert label.dtype == dtype
    np.testing.assert_array_equal(label, ids)
    label[:] = 0  # the array is writable


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_palette_indices_are_ids(tmp_path, bits):
    ids = (IDS % 2**bits).astype(np.uint8)
    with_palette(ids).save(tmp_path / "label.png", bits=bits, transparency=0)
    assert (tmp_path / "label.png").read_bytes()[24:26] == bytes([bits, 3])
    label = read_label(tmp_path / "label.png")
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, ids)


INVALID_LABELS = {
    "colors.png": (lambda: encoded(COLOR), "PNG color type 2"),
    "alpha.png": (lambda: encoded(Image.fromarray(COLOR).convert("RGBA")), "PNG color type 6"),
    "gray_alpha.png": (lambda: encoded(Image.fromarray(COLOR).convert("LA")), "PNG color type 4"),
    "gray1.png": (lambda: png(1, 0, [b"\x5a", b"\xff"]), "bits=1"),
    "gray2.png": (lambda: png(2, 0, [b"\x5a", b"\xff"]), "bits=2"),
    "gray4.png": (lambda: png(4, 0, [b"\x5a", b"\xff"]), "bits=4"),
    "label.jpg": (lambda: encoded(GRAY, "JPEG"), "a file starting with b'"),
    "empty.png": (lambda: b"", "0 bytes"),
    "truncated.png": (lambda: encoded(GRAY)[:-20], "unexpected end of file"),
    "header.png": (lambda: encoded(GRAY)[:20], "a file starting with b'"),
    "palette.png": (lambda: encoded(Image.fromarray(COLOR).quantize(9))[:-200], "truncated"),
    "label.gif": (lambda: encoded(GRAY, "GIF"), "a file starting with b'GIF"),
    "rgb.tif": (lambda: encoded(COLOR, "TIFF"), "Pillow mode 'RGB'"),
    "jpeg.tif": (lambda: encoded(GRAY, "TIFF", compression="jpeg"), "compression='jpeg'"),
    "float.tif": (lambda: encoded(GRAY.astype(np.float32), "TIFF"), "Pillow storage 'F;32F'"),
    "inverted.tif": (lambda: encoded(GRAY, "TIFF", tiffinfo={262: 0}), "Pillow storage 'L;I'"),
    "bits1.tif": (lambda: encoded(GRAY > 9, "TIFF"), "Pillow storage '1'"),
    "truncated.bmp": (lambda: encoded(GRAY, "BMP")[:-9], "truncated"),
    "float.npy": (lambda: npy(GRAY.astype(float)), "dtype=float64, shape=(37, 53)"),
    "colors.npy": (lambda: npy(COLOR), "dtype=uint8, shape=(37, 53, 3)"),
    "objects.npy": (lambda: npy(np.array([[None]]), allow_pickle=True), "dtype=object, shape=(1, 1)"),
    "truncated.npy": (lambda: npy(GRAY)[:-1], "1960 bytes for an array of 1961 bytes"),
    "longer.npy": (lambda: npy(GRAY) + b"0", "1962 bytes for an array of 1961 bytes"),
    "version.npy": (lambda: b"\x93NUMPY\x09\x00", "KeyError"),
    "header.npy": (lambda: npy_header("{'descr': __import__('os')}"), "ValueError"),
    "negative.npy": (lambda: npy_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-2, -4)}"), "(-2, -4)"),
    "huge.npy": (
        lambda: npy_header(
            "{'descr': '<i8', 'fortran_order': False, 'shape': (10**9, 10**9)}".replace("10**9", "1" * 30)
        ),
        "8 bytes for an array of",
    ),
}


@pytest.mark.parametrize("name", INVALID_LABELS)
def test_unsupported_label_raises_with_its_path(tmp_path, name):
    make, received = INVALID_LABELS[name]
    path = write(tmp_path / name, make())
    with pytest.raises(UnreadableFileError, match=rf"^{re.escape(str(path))} .*Received: .*{re.escape(received)}"):
        read_label(path)
