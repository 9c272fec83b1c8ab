"""Label maps: conversion of raw ids and colors to class ids, and the forms in which users write them."""

import pickle

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dl_lib.data.cache import cached_dataset
from dl_lib.data.datasets.folder import FolderSource
from dl_lib.data.errors import DataError, UnknownLabelError, UnreadableFileError
from dl_lib.data.label_map import LabelClasses

CLASSES = LabelClasses(("road", "car", "sky"), ignore_value=255)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{0: ignore, 1-5: road, 7: 1, 300: sky}", {0: 255, 1: 0, 5: 0, 7: 1, 300: 2}),
        ("{'0': 255, ' 1 - 5 ': 0, '7': car}", {0: 255, 3: 0, 7: 1}),
        ("{-1: ignore, '-9--7': 0, 2: 1, 65535: 2}", {-1: 255, -8: 0, 2: 1, 65535: 2}),
        ("0: road\n2-3: car\n100000-200000: sky", {0: 0, 2: 1, 3: 1, 123456: 2}),
    ],
)
def test_raw_ids_of_all_integer_types_are_converted(tmp_path, text, expected):
    reader = pickle.loads(pickle.dumps(CLASSES.id_reader(yaml.safe_load(text))))
    raw = np.array([list(expected)])
    for dtype in (np.uint8, np.int8, np.uint16, np.int16, np.int32, np.int64):
        if (raw == raw.astype(dtype)).all():
            np.save(tmp_path / "label.npy", raw.astype(dtype))
            label = reader(str(tmp_path / "label.npy"))
            assert label.tolist() == [list(expected.values())]
            assert label.dtype == np.uint8


@given(st.dictionaries(st.integers(-(2**15), 2**16), st.sampled_from([0, 1, 2, "ignore"]), min_size=1), st.data())
def test_conversion_equals_the_map(label_map, data):
    reader = CLASSES.id_reader(label_map)
    dtype = data.draw(st.sampled_from([np.uint8, np.uint16, np.int16, np.int64]))
    limits = np.iinfo(dtype)
    ids = st.one_of(st.sampled_from(sorted(label_map)), st.integers(-(2**15), 2**16))
    raw = [value for value in data.draw(st.lists(ids, max_size=9)) if limits.min <= value <= limits.max] or [7]
    labels = {value: 255 if target == "ignore" else target for value, target in label_map.items()}
    listed = [value for value in raw if value in labels]
    if listed:
        assert reader.convert(np.array([listed], dtype), path="a").tolist() == [[labels[value] for value in listed]]
    if listed != raw:
        with pytest.raises(UnknownLabelError, match=rf" of {len(raw)} pixels$"):
            reader.convert(np.array([raw], dtype), path="a")


@pytest.mark.parametrize(
    ("num_classes", "ignore_value", "raw", "expected"),
    [
        (3, 255, [0, 1, 3, 255], [255, 0, 2, 255]),
        (150, 255, [0, 1, 150], [255, 0, 149]),
        (3, 3, [0, 1, 3], [3, 0, 2]),  # 3 is a class in the file and ignored in the result
        (256, 300, [0, 256, 300], [300, 255, 300]),
        (255, 255, [0, 255], [255, 254]),
        (2, -1, [0, 2], [-1, 1]),
    ],
)
def test_reduce_zero(tmp_path, num_classes, ignore_value, raw, expected):
    """As `reduce_zero_label` of mmsegmentation: 0 becomes ignored, n becomes n - 1."""
    reader = LabelClasses(tuple(map(str, range(num_classes))), ignore_value=ignore_value).reduced_reader()
    np.save(tmp_path / "label.npy", np.array([raw]))
    assert reader(str(tmp_path / "label.npy")).tolist() == [expected]
    np.save(tmp_path / "label.npy", np.array([[num_classes + 1, 0, num_classes + 1, 9999]]))
    message = (
        rf"label\.npy contains ids that REDUCE_ZERO does not list.*: {num_classes + 1} in 2, 9999 in 1 of 4 pixels$"
    )
    with pytest.raises(UnknownLabelError, match=message):
        reader(str(tmp_path / "label.npy"))


def test_unlisted_ids_raise_with_the_most_frequent_ones(tmp_path):
    Image.fromarray(np.array([[1, 1, 9, 0], [9, 9, 8, 0]], np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(
        UnknownLabelError, match=r"a\.png contains ids that LABEL_MAP.* 9 in 3, 1 in 2, 8 in 1 of 8 pixels$"
    ):
        CLASSES.id_reader({0: "road"})(str(tmp_path / "a.png"))
    Image.fromarray(np.arange(256, dtype=np.uint8)[None]).save(tmp_path / "a.png")
    with pytest.raises(UnknownLabelError, match=r" and 245 more of 256 pixels$"):
        CLASSES.id_reader({0: "road"})(str(tmp_path / "a.png"))


COLORS = ((128, 64, 128), (0, 0, 142), (70, 130, 180))


@pytest.mark.parametrize(
    "text",
    [
        "[[128, 64, 128], [0, 0, 142], [70, 130, 180]]",
        "['#804080', '0 0 142', '70, 130, 180']",
        "{'128, 64, 128': road, 0 0 142: car, '#4682B4': 2}",
        "128,64,128: road\n0,0,142: car\n70,130,180: sky\n0,0,0: ignore",
    ],
)
def test_forms_of_color_maps(text):
    reader = CLASSES.color_reader(yaml.safe_load(text))
    assert reader.colors[:3] == tuple(zip(COLORS, range(3), strict=True))
    assert reader.colors[3:] in ((), (((0, 0, 0), 255),))


@pytest.mark.parametrize("ending", [".png", ".bmp", ".tif"])
def test_colors_are_converted(tmp_path, ending):
    labels = np.random.default_rng(0).integers(0, 4, (70, 30))
    path = str(tmp_path / f"label{ending}")
    Image.fromarray(np.array([*COLORS, (0, 0, 0)], np.uint8)[labels]).save(path)
    reader = CLASSES.color_reader({(0, 0, 0): "ignore", **{color: label for label, color in enumerate(COLORS)}})
    label = pickle.loads(pickle.dumps(reader))(path)
    np.testing.assert_array_equal(label, np.where(labels == 3, 255, labels))
    assert label.dtype == np.uint8
    count = np.count_nonzero(labels == 3)
    message = rf"COLOR_MAP does not list; .*Received: \(0, 0, 0\) in {count} of 2100 pixels$"
    with pytest.raises(UnknownLabelError, match=message):
        CLASSES.color_reader(COLORS)(path)


@pytest.mark.parametrize(
    "content",
    [
        "128 64 128\n0 0 142\n70 130 180\n",
        "\ufeff128 64 128\troad\r\n0 0 142\t\tcar\r\n70 130 180\tsky\r\n0 0 0 ignore",
        "name,r,g,b\nsky,70,130,180\nroad, 128, 64, 128\ncar,0,0,142\n",
        "# label:color_rgb:parts:actions\nsky:70,130,180::\nroad:128,64,128:lane,curb:turn\n\ncar:0,0,142::\n",
        '{"road": [128, 64, 128],\n"car": [0, 0, 142],\n"sky": [70, 130, 180]}\n',
        "GIMP Palette\nName: mine\nColumns: 0\n#\n128  64 128\troad\n  0   0 142\tcar\n 70 130 180\tsky\n",
    ],
)
def test_palette_files(tmp_path, content):
    (tmp_path / "palette.txt").write_text(content, encoding="utf-8", newline="")
    reader = CLASSES.palette_reader(tmp_path / "palette.txt")
    assert dict(reader.colors[:4]) | {(0, 0, 0): 255} == {**dict(zip(COLORS, range(3), strict=True)), (0, 0, 0): 255}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"1 2 3\n4 5 6\n", "must list a color for each of the 3 classes.* 2 colors$"),
        (b"1 2 3 road\n4 5 6\n", "the class of .4, 5, 6. must be a class index"),
        (b"1 2 3 raod\n", "nearest: road"),
        (b"1 2 3 road\n1 2 3 car\n", "color_map must list colors, each once"),
        (b"1 2 300 road\n", "channels from 0 to 255"),
        (b"\xff\xfe1", "be a text file in UTF-8"),
        (b"1 2 3 " + b"4 " * 9999, "lines of at most 200 characters"),
        (b"1 2 3 road\n4 5 car\n6 7 8 sky", "lines such as .* Received: '4 5 car'$"),
        (b"a,b\nc", r"lines such as .* Received: 'a,b\\nc'$"),
        (b"", "lines such as .* Received: ''$"),
    ],
)
def test_invalid_palette_raises_with_its_path(tmp_path, content, problem):
    (tmp_path / "palette.txt").write_bytes(content)
    with pytest.raises(DataError, match=rf"palette\.txt must .*{problem}"):
        CLASSES.palette_reader(tmp_path / "palette.txt")


def test_datasets_return_and_cache_converted_labels(root):
    for folder in ("images", "labels"):
        (root / folder).mkdir()
        Image.fromarray(np.array([[0, 255]], np.uint8)).save(root / folder / "1.png")
    settings = {"images": "images", "labels": "labels", "classes": ("background", "object")}
    plain, mapped = (FolderSource(**settings, label_map=m)() for m in (None, {0: 0, 255: "object"}))
    assert cached_dataset(plain, name="set", folder=root)[0]["sem_seg"].tolist() == [[0, 255]]
    # A changed label map makes the cache stale.
    assert cached_dataset(mapped, name="set", folder=root)[0]["sem_seg"].tolist() == [[0, 1]]
    (root / "palette.txt").write_text("0 0 0 background\n255 255 255 object\n")
    palette = FolderSource(**settings, color_map="palette.txt")
    assert cached_dataset(palette(), name="set", folder=root)[0]["sem_seg"].tolist() == [[0, 1]]
    assert palette().fingerprint() != mapped.fingerprint()
    colors = FolderSource(**settings, color_map=((0, 0, 0), (255, 255, 255)))
    assert colors.meta.class_colors == ((0, 0, 0), (255, 255, 255))  # figures use the colors of the files
    (root / "palette.txt").unlink()
    with pytest.raises(DataError, match=r"Expected a palette file.*palette\.txt'$"):
        palette()


def test_lossy_color_labels_raise(tmp_path):
    cv2.imwrite(str(tmp_path / "label.jpg"), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UnreadableFileError, match="label files need a lossless format"):
        CLASSES.color_reader(COLORS)(str(tmp_path / "label.jpg"))


@pytest.mark.parametrize(
    ("value", "meaning"), [(1, None), ("1", 0), ("2", 1), (2, None), (0, 0), ("ignore", None), (255, 255)]
)
def test_value_that_is_name_and_index_or_ignore_raises(value, meaning):
    classes = LabelClasses(("1", "2", "ignore"), ignore_value=255)
    if meaning is not None:
        assert classes.id_reader({7: value}).ranges == ((7, 7, meaning),)
    else:
        with pytest.raises(ValueError, match=r"label_map\[7\] is ambiguous: it is the name of a class, and also"):
            classes.id_reader({7: value})
