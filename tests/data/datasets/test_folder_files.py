"""Layouts of folders: file name patterns, split lists, several roots, and hints for files that are not found."""

import numpy as np
import pytest
from PIL import Image

from dl_lib.data.datasets.folder import FolderSource
from dl_lib.data.errors import DataError, MissingDataError
from dl_lib.data.files import UnpairedFilesError


def write(root, *paths):
    """Write images of 2 x 3 gray pixels with the value 1."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if path.lower().endswith(".npy"):
            with (root / path).open("wb") as file:
                np.save(file, np.ones((2, 3), int))
        else:
            Image.fromarray(np.ones((2, 3), np.uint8)).save(root / path)


def source(images="i", labels="m", **settings):
    return FolderSource(images=images, labels=labels, classes=("a", "b"), **settings)


LAYOUTS = {  # files, settings, image ids
    "suffixes": (
        ["i/x_sat.jpg", "i/y_sat.JPG", "m/x_mask.png", "m/y_mask.PNG"],
        {"image_pattern": "{name}_sat.jpg", "label_pattern": "{name}_mask.png"},
        ["x", "y"],
    ),
    "prefixes": (
        ["i/a/sat_1.jpg", "m/a/mask_1.png"],
        {"image_pattern": "sat_{name}", "label_pattern": "mask_{name}"},
        ["a/1"],
    ),
    "one folder, formats": (["d/x.jpg", "d/x.png"], {"images": "d", "labels": "d"}, ["x"]),
    "one folder, label suffix": (
        ["d/x.png", "d/x_mask.png", "d/y.png", "d/y_mask.png"],
        {"images": "d", "labels": "d", "label_suffix": "_mask"},
        ["x", "y"],
    ),
    "one folder, both suffixes": (
        ["d/1_sat.jpg", "d/1_mask.png"],
        {"images": "d", "labels": "d", "image_pattern": "{name}_sat.jpg", "label_pattern": "{name}_mask.png"},
        ["1"],
    ),
    "one folder, image suffix": (
        ["d/1_rgb.png", "d/1.png"],
        {"images": "d", "labels": "d", "image_pattern": "{name}_rgb.png"},
        ["1"],
    ),
    "labels below images": (["d/1.png", "d/m/1.png"], {"images": "d", "labels": "d/m"}, ["1"]),
    "images below labels": (["m/i/1.png", "m/1.png"], {"images": "m/i", "labels": "m"}, ["1"]),
    "folders per scene": (
        ["d/s/images/1.png", "d/s/masks/1.png", "d/t/images/1.png", "d/t/masks/1.png"],
        {"images": "d", "labels": "d", "image_pattern": "images/{name}.png", "label_pattern": "masks/{name}.png"},
        ["s/1", "t/1"],
    ),
    "folder per image": (
        ["d/1/image.png", "d/1/mask.png"],
        {"images": "d", "labels": "d", "image_pattern": "{name}/image.png", "label_pattern": "{name}/mask.png"},
        ["1"],
    ),
    "tif": (["i/1.jpg", "m/1.tif"], {"label_pattern": "{name}.tif"}, ["1"]),
    "npy": (["i/1.jpg", "m/1.NPY"], {"label_pattern": "{name}.npy"}, ["1"]),
    "several hidden roots": (
        ["x/.p/1.jpg", "y/1.jpg", "m/1.png", "n/1.png"],
        {"images": ("x/.p", "i/../y"), "labels": ("m", "n")},
        ["x/p/1", "y/1"],
    ),
    "several roots": (
        ["p/i/1.jpg", "q/i/1.jpg", "p/m/1.png", "q/m/1.png"],
        {"images": ("p/i", "q/i"), "labels": ("p/m", "q/m")},
        ["p/i/1", "q/i/1"],
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layout(root, layout):
    (root / "i").mkdir()
    files, settings, image_ids = LAYOUTS[layout]
    write(root, *files)
    dataset = source(**settings)()
    assert [dataset[index]["image_id"] for index in range(len(dataset))] == image_ids
    for index in range(len(dataset)):
        np.testing.assert_array_equal(dataset[index]["sem_seg"], np.ones((2, 3)))
        assert len(dataset) * 2 == len(files)


def test_split_lists(root):
    write(root, "i/a/1.jpg", "i/2.jpg", "i/3.jpg", "m/a/1.png", "m/2.png", "m/4.png")
    (root / "train.txt").write_bytes("\ufeff2.jpg\r\na/1\r\n".encode())  # with and without extension
    dataset = source(split="train.txt")()
    assert [dataset[index]["image_id"] for index in range(2)] == ["2", "a/1"]
    for line in ("i/a/1.jpg", f"{root}/i/a/1", "./a/1.jpg", "i\\a\\1.jpg", "a/1.png"):
        (root / "train.txt").write_text(line)
        assert source(split="train.txt")()[0]["image_id"] == "a/1"
    for names, problem in (
        ("3\n4\n5\n", r"without a label: 2 \(3, 5\); without an image: 2 \(4, 5\)"),
        ("x/i/2\n", r"label: 1 \(x/i/2\).* Each line of a split list must be the name or path of one image, without"),
        (
            "i/2.jpg m/2.png\n",
            r"Each line of a split list must be the name or path of one image, without other columns",
        ),
        ("2\n2.jpg\n", r"must not contain an image twice. Received: \['2'\]"),
    ):
        (root / "train.txt").write_text(names)
        with pytest.raises(DataError, match=problem):
            source(split="train.txt")()
    (root / "train.txt").write_text("\n")
    with pytest.raises(MissingDataError, match=r"split list of .*i is empty; write one image name per line"):
        source(split="train.txt")()
    with pytest.raises(MissingDataError, match=r"Expected a list of names.*val\.txt'$"):
        source(split="val.txt")()


def test_problems_of_several_roots(root):
    write(root, "p/1.jpg", "q/1.jpg", "m/1.png")
    (root / "empty").mkdir()
    with pytest.raises(UnpairedFilesError, match=r"p and .*m and .*q and .*found 1 pairs; .* label: 1 \(q/1\)"):
        source(images=("p", "q"), labels=("m", "empty"))()
    (root / "link").symlink_to("p")
    (root / "p" / "below").mkdir()
    for images in (("p", "p"), ("p", "."), ("q", "p/below", "p"), ("p", "link")):
        with pytest.raises(DataError, match=r"images must be different folders that do not contain each other"):
            source(images=images, labels=None)()
    with pytest.raises(MissingDataError, match="empty contains no images"):
        source(images=("p", "empty"), labels=None)()


@pytest.mark.parametrize(
    ("files", "settings", "hint"),
    [
        (["i/1.jpg", "m/1.tif"], {}, r"Labels exist as \.tif: not read; set LABEL_PATTERN to '\{name\}\.tif'\. Add"),
        (["i/1.jpg", "m/1.jpeg"], {}, r"Labels exist as \.jpeg: not read; create them again as PNG"),
        (
            ["i/x_sat.jpg", "m/x_mask.png"],
            {},
            r"other names; set LABEL_PATTERN to '\{name\}_mask\.png' and IMAGE_PATTERN to '\{name\}_sat'\.",
        ),
        (
            ["i/im_7.jpg", "m/mask_7.bmp"],
            {},
            r"set LABEL_PATTERN to 'mask_\{name\}\.bmp' and IMAGE_PATTERN to 'im_\{name\}'",
        ),
        (["d/1.png", "d/1_m.png"], {"images": "d", "labels": "d"}, r"set LABEL_PATTERN to '\{name\}_m\.png'\. Add"),
        (
            ["d/1_rgb.png", "d/1_label.png"],
            {"images": "d", "labels": "d"},
            r"set LABEL_PATTERN to '\{name\}_label\.png' and IMAGE_PATTERN to '\{name\}_rgb\.png'",
        ),
        (
            ["i/1.jpg", "i/2.jpg", "m/1.png"],
            {},
            r"without an image: none\. Expected label: 2\.png\. Add",
        ),  # a label is missing
        (["i/1_{a}{.jpg", "m/1_%s{x}.png"], {}, r"set LABEL_PATTERN to '\{name\}_%s\{x\}\.png' and IMAGE_PATTERN"),
        (["i/{name}.jpg", "m/{name}_{name}.png"], {}, r"Expected label: \{name\}\.png\. Add"),
        (
            ["i/1.jpg", "m/1_m.png"],
            {"label_suffix": "_x"},
            r"set LABEL_PATTERN to '\{name\}_m\.png'\. Remove LABEL_SUFFIX",
        ),
        (["i/s/a.jpg", "m/a.png"], {"label_suffix": "_m"}, r"Expected label: s/a_m\.png\. Add"),
    ],
)
def test_unpaired_files_raise_with_the_patterns_to_set(root, files, settings, hint):
    write(root, *files)
    with pytest.raises(UnpairedFilesError, match=hint):
        source(**settings)()
