"""Messages about limits of the decoders, and about files that stand in for others."""

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from PIL.PngImagePlugin import PngInfo

from dl_lib.data.errors import UnreadableFileError
from dl_lib.data.reading import read_image, read_label
from tests.helpers.image_files import encoded, png, write

PALETTE_IMAGE = Image.fromarray(np.arange(37 * 53, dtype=np.uint8).reshape(37, 53)).quantize(9)


def png_with_text(*sizes):
    info = PngInfo()
    for size in sizes:
        info.add_text("note", "x" * size, zip=True)
    return encoded(PALETTE_IMAGE, pnginfo=info)


LIMITS = {
    "pixels of Pillow": (lambda: encoded(PALETTE_IMAGE), "PIL.Image.MAX_IMAGE_PIXELS", "1961 pix"),
    "size of a text": (
        lambda: png_with_text(2_000_000),
        r"1048576 bytes \(PIL.PngImagePlugin.MAX_TEXT_CHUNK\)",
        "large",
    ),
    "size of all texts": (lambda: png_with_text(999, 999), r"\(PIL.PngImagePlugin.MAX_TEXT_MEMORY\)", "memory"),
    "pixels of OpenCV": (
        lambda: png(8, 0, [b"\0"], size=(40000, 40000)),
        r"1073741824 \(OPENCV_IO_MAX_IMAGE_PIXELS\)",
        "OpenCV",
    ),
    "side in libpng": (lambda: png(8, 0, [b"\0"], size=(10**6 + 1, 99)), "1000000 pixels per side", r"\(1000001, 99\)"),
}


@pytest.mark.parametrize("read", [read_image, read_label])
@pytest.mark.parametrize("name", LIMITS)
def test_limit_of_a_decoder_is_named(tmp_path, monkeypatch, name, read):
    make, limit, received = LIMITS[name]
    path = write(tmp_path / "image.png", make())
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 900)
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 1500)
    with pytest.raises(UnreadableFileError, match=rf"(?s)image\.png .*{limit}.* Received: .*{received}") as caught:
        read(path)
    assert "damaged" not in str(caught.value)
    if name == "pixels of Pillow":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
        assert read(path).shape[:2] == (37, 53)


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a", "is a pointer of Git LFS; run `git lfs pull`"),
        (b"/annex/objects/SHA256E-s30", "is a pointer of git-annex; run `git annex get`"),
        (b"\xef\xbb\xbf\n <!DOCTYPE html>", "is a web page or XML document"),
        (b"<?xml version='1.0'?><Error>", "is a web page or XML document"),
        (b"\x1f\x8b\x08", "is a gzip archive; extract it"),
        (b"PK\x03\x04", "is a zip archive; extract it"),
    ],
)
@pytest.mark.parametrize("read", [read_image, read_label])
def test_file_that_stands_in_for_another_is_named(tmp_path, read, start, message):
    with pytest.raises(
        UnreadableFileError, match=rf"image\.png {message}.* Received: {len(start)} bytes starting with b"
    ):
        read(write(tmp_path / "image.png", start))


def test_lack_of_memory_is_named(tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError

    path = write(tmp_path / "image.png", encoded(PALETTE_IMAGE))
    monkeypatch.setattr(Image.Image, "convert", fail)
    with pytest.raises(UnreadableFileError, match=r"image\.png does not fit into memory; .*Received: MemoryError$"):
        read_image(path)
