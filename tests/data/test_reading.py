"""Reading of image and label files: missing and unusable files, image sizes."""

import os
import re

import numpy as np
import pytest
from PIL import Image

from dl_lib.data.errors import MissingDataError, UnreadableFileError
from dl_lib.data.reading import read_color_label, read_image, read_image_size, read_label
from tests.helpers.image_files import encoded, png, write


@pytest.mark.parametrize("read", [read_image, read_image_size, read_label, read_color_label])
def test_unusable_path_raises(tmp_path, read):
    with pytest.raises(MissingDataError, match=r"file does not exist; .*\. Received: path='.*absent\.png'$"):
        read(tmp_path / "absent.png")
    os.mkfifo(tmp_path / "pipe")
    for path, received in {
        tmp_path: "Is a directory",
        tmp_path / "pipe": "not a regular file but a pipe, device or socket",
        "/dev/zero": "not a regular file but a pipe, device or socket",
        "a\0b": "embedded null byte",
    }.items():
        with pytest.raises(UnreadableFileError, match=rf"^{re.escape(str(path))} cannot be opened; .*{received}$"):
            read(path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_image_size_is_read_from_the_header(tmp_path, kind):
    path = write(tmp_path / "image", encoded(Image.fromarray(np.zeros((37, 53), np.uint8)), kind))
    assert read_image_size(path) == read_image(path).shape[:2] == (37, 53)
    if kind != "TIFF":  # whose header is at the end
        write(path, path.read_bytes()[:-10])
        assert read_image_size(path) == (37, 53)
    write(path, path.read_bytes()[:20])
    with pytest.raises(UnreadableFileError, match="image is damaged or truncated"):
        read_image_size(path)


def test_size_of_a_png_has_no_limit(tmp_path):
    """OpenCV decodes more pixels than Pillow."""
    assert read_image_size(write(tmp_path / "image.png", png(8, 2, [bytes(3)], size=(20000, 10000)))) == (10000, 20000)
    with pytest.raises(UnreadableFileError):
        read_image_size(write(tmp_path / "image.png", png(8, 2, [bytes(3)], size=(0, 10))))
