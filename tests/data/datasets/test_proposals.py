"""Proposed entries of DATASETS.FOLDERS: each is valid and fits the files."""

import numpy as np
import pytest
import yaml
from PIL import Image

from dl_lib.data.datasets.configured import parse_folders
from dl_lib.data.datasets.folder import FolderSource
from dl_lib.data.datasets.proposals import propose_entry


def source(**settings):
    return FolderSource(**{"images": "i", "labels": "m", "classes": ("a", "b", "c"), **settings})


def write(root, path, pixels):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels)).save(root / path)


def proposed(current):
    """Return the changed settings and the labels of the first sample read with the proposed entry."""
    entries = yaml.safe_load(propose_entry("mine", current).entry)
    (new,) = parse_folders(entries).sources.values()
    settings = {key: value for key, value in entries[0].items() if key not in ("NAME", "IMAGES", "LABELS", "CLASSES")}
    return settings, new()[0]["sem_seg"].ravel().tolist()


@pytest.mark.parametrize(
    ("ids", "current", "settings", "labels"),
    [
        ([0, 1, 2, 3], {}, {"REDUCE_ZERO": True}, [255, 0, 1, 2]),
        ([1, 2, 3, 255], {}, {"REDUCE_ZERO": True}, [0, 1, 2, 255]),
        ([0, 255], {"classes": ("a", "b")}, {"LABEL_MAP": {0: "a", 255: "b"}}, [0, 1]),
        ([0, 128], {"classes": ("a", "b")}, {"LABEL_MAP": {0: "a", 128: "b"}}, [0, 1]),
        ([0, 128, 255], {}, {"LABEL_MAP": {0: "a", 128: "b", 255: "c"}}, [0, 1, 2]),
        ([7, 8, 11, 255], {}, {"LABEL_MAP": {7: "a", 8: "b", 11: "c", 255: "ignore"}}, [0, 1, 2, 255]),
        ([0, 7, 8, 11], {}, {"LABEL_MAP": {0: "ignore", 7: "a", 8: "b", 11: "c"}}, [255, 0, 1, 2]),
        (
            [0, 1, 7, 8, 9, 300],
            {},
            {"LABEL_MAP": {0: "a", 1: "b", "7-9": "ignore", 300: "ignore"}},
            [0, 1, 255, 255, 255, 255],
        ),
        (
            [0, 1, 128, 255],
            {"classes": ("a", "b")},
            {"LABEL_MAP": {0: "a", 1: "b", 128: "ignore", 255: "ignore"}},
            [0, 1, 255, 255],
        ),
        (
            [0, 5, 9],
            {"label_map": {0: "a", "4-6": 1}},
            {"LABEL_MAP": {0: "a", "4-6": 1, 9: "ignore"}},
            [0, 1, 255],
        ),
        (
            [0, 1, 9],
            {"reduce_zero": True},
            {"LABEL_MAP": {0: "ignore", 1: "a", 2: "b", 3: "c", 9: "ignore"}},
            [255, 0, 255],
        ),
    ],
)
def test_ids(root, ids, current, settings, labels):
    write(root, "i/1.png", np.zeros((1, len(ids)), np.uint8))
    write(root, "m/1.png", np.array([ids], np.uint16))
    assert proposed(source(**current)) == (settings, labels)


@pytest.mark.parametrize(
    ("colors", "current", "settings", "labels"),
    [
        (
            [(0, 0, 0), (255, 0, 0), (255, 255, 255)],
            {},
            {"COLOR_MAP": {"0, 0, 0": "a", "255, 0, 0": "b", "255, 255, 255": "c"}},
            [0, 1, 2],
        ),
        (  # the PASCAL VOC colormap has an order
            [(128, 0, 0), (0, 0, 0), (0, 128, 0), (224, 224, 192)],
            {},
            {"COLOR_MAP": {"0, 0, 0": "a", "128, 0, 0": "b", "0, 128, 0": "c", "224, 224, 192": "ignore"}},
            [1, 0, 2, 255],
        ),
        (
            [(9, 9, 9), (1, 1, 1)],
            {"colors": ((9, 9, 9), (1, 1, 1), (5, 5, 5))},
            {
                "COLORS": [[9, 9, 9], [1, 1, 1], [5, 5, 5]],
                "COLOR_MAP": {"9, 9, 9": "a", "1, 1, 1": "b", "5, 5, 5": "c"},
            },
            [0, 1],
        ),
        (
            [(9, 9, 9), (7, 7, 7)],
            {"color_map": {"9,9,9": "c"}},
            {"COLOR_MAP": {"9, 9, 9": "c", "7, 7, 7": "ignore"}},
            [2, 255],
        ),
        ([(0, 0, 9), (9, 0, 0)], {"reduce_zero": True}, {"COLOR_MAP": {"0, 0, 9": "a", "9, 0, 0": "b"}}, [0, 1]),
        ([(0, 0, 9), (9, 0, 0)], {"label_map": {0: 1}}, {"COLOR_MAP": {"0, 0, 9": "a", "9, 0, 0": "b"}}, [0, 1]),
    ],
)
def test_colors(root, colors, current, settings, labels):
    write(root, "i/1.png", np.zeros((1, len(colors)), np.uint8))
    write(root, "m/1.png", np.array([colors], np.uint8))
    assert proposed(source(**current)) == (settings, labels)


def test_scaled_gray_values_are_colors(root):
    write(root, "i/1.png", np.zeros((1, 2), np.uint8))
    write(root, "m/1.png", np.array([[True, False]]))  # a PNG with 1 bit
    assert proposed(source()) == ({"COLOR_MAP": {"0, 0, 0": "a", "255, 255, 255": "b"}}, [1, 0])


def test_file_names_and_ids_together(root):
    for number in range(3):
        write(root, f"i/{number}_sat.png", np.zeros((1, 2), np.uint8))
        write(root, f"m/{number}_mask.tif", np.array([[0, 255]], np.uint8))
    current = source(classes=("a", "b"))
    settings = {"IMAGE_PATTERN": "{name}_sat", "LABEL_PATTERN": "{name}_mask.tif", "LABEL_MAP": {0: "a", 255: "b"}}
    assert proposed(current) == (settings, [0, 1])
    reasons = "; ".join(propose_entry("mine", current).reasons)
    assert reasons == "images and labels have other file names; labels contain the ids 0 (50 %), 255 (50 %)"


def test_no_proposal_for_files_that_fit_or_cannot_be_explained(root):
    write(root, "i/1.png", np.zeros((20, 20), np.uint8))
    instance_ids = np.arange(400, dtype=np.uint16).reshape(20, 20)
    photo = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    interpolated = np.arange(64, dtype=np.uint8).reshape(8, 8)
    transparent = np.zeros((2, 2, 4), np.uint8)
    for pixels in (np.array([[0, 1, 255]], np.uint8), instance_ids, interpolated, photo, transparent):
        write(root, "m/1.png", pixels)
        assert propose_entry("mine", source()) is None
    write(root, "m/1.png", np.array([[0, 255]], np.uint8))
    assert propose_entry("mine", source(classes=("a", "ignore"))) is None
    (root / "m" / "1.png").write_bytes(b"damaged")
    assert propose_entry("mine", source()) is None
