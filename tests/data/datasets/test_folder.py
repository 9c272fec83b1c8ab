"""Custom datasets from folders, registered in code and in a config."""

import copy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dl_lib.config import ConfigError, get_cfg
from dl_lib.config.declarations import KEYS
from dl_lib.data.catalog import Catalog, DatasetCatalog
from dl_lib.data.datasets.configured import ENTRY_KEYS, parse_folders, register_folders
from dl_lib.data.datasets.folder import register_folder_sem_seg
from dl_lib.data.errors import DataError, MissingDataError
from dl_lib.data.files import UnpairedFilesError
from dl_lib.validation import validate_config

IMAGE = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
LABEL = np.eye(4, 5, dtype=np.uint8)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Dataset root with images and labels in several formats."""
    monkeypatch.setenv("DL_DATASETS", str(tmp_path))
    for name in ("a/1.png", "a/2.JPG", "b/1.tif", "3.bmp"):
        save(tmp_path / "mine" / "images" / name, Image.fromarray(IMAGE))
    palette = Image.fromarray(LABEL)
    palette.putpalette(bytes(range(6)))
    for name, label_image in (("a/1", palette), ("a/2", Image.fromarray(LABEL.astype(np.uint16))), ("b/1", palette)):
        save(tmp_path / "mine" / "labels" / f"{name}_mask.png", label_image)
    save(tmp_path / "mine" / "labels" / "3_mask.png", Image.fromarray(LABEL))
    (tmp_path / "mine" / "labels" / "notes.txt").touch()
    return tmp_path


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def registered(**changes):
    catalog = Catalog()
    settings = {
        "images": "mine/images",
        "labels": "mine/labels",
        "classes": ["road", "car"],
        "label_suffix": "_mask",
        "catalog": catalog,
    }
    register_folder_sem_seg("mine", **{**settings, **changes})
    return catalog


def test_images_and_labels_are_paired_by_name(root):
    catalog = registered()
    dataset = catalog.get("mine")
    assert [dataset[index]["image_id"] for index in range(len(dataset))] == ["3", "a/1", "a/2", "b/1"]
    for index in range(len(dataset)):
        np.testing.assert_array_equal(dataset[index]["sem_seg"], LABEL)
        assert dataset[index]["image"].shape == (4, 5, 3)
    np.testing.assert_array_equal(dataset[0]["image"], IMAGE)
    meta = catalog.meta("mine")
    assert (meta.class_names, meta.ignore_value, meta.labelled) == (("road", "car"), 255, True)
    assert len(set(meta.class_colors)) == 2


def test_absolute_paths_ignore_the_datasets_root(root, monkeypatch):
    monkeypatch.setenv("DL_DATASETS", str(root / "absent"))
    catalog = registered(images=root / "mine" / "images", labels=root / "mine" / "labels")
    assert len(catalog.get("mine")) == 4


def test_registration_reads_no_files(root):
    catalog = registered(images="absent")
    assert catalog.meta("mine").num_classes == 2
    with pytest.raises(MissingDataError, match=r"Expected a folder of images.*/absent'$"):
        catalog.get("mine")


def test_dataset_without_labels(root):
    catalog = registered(labels=None, ignore_value=7, colors=[(1, 2, 3), (4, 5, 6)])
    dataset = catalog.get("mine")
    assert len(dataset) == 4
    assert "sem_seg" not in dataset[0]
    meta = catalog.meta("mine")
    assert (meta.labelled, meta.ignore_value, meta.class_colors) == (False, 7, ((1, 2, 3), (4, 5, 6)))


def test_unpaired_files_raise(root):
    (root / "mine" / "labels" / "3_mask.png").rename(root / "mine" / "labels" / "4_mask.png")
    with pytest.raises(UnpairedFilesError, match=r"without a label: 1 \(3\); without an image: 1 \(4\)") as caught:
        registered().get("mine")
    assert len(caught.value.usable) == 3
    with pytest.raises(
        UnpairedFilesError, match=r"without a label: 4 \(3, a/1, a/2, \.\.\.\); without an image: 4 \(4_mask, "
    ):
        registered(label_suffix="").get("mine")


def test_duplicate_image_name_raises(root):
    save(root / "mine" / "images" / "3.png", Image.fromarray(IMAGE))
    with pytest.raises(DataError, match="name '3'"):
        registered().get("mine")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"classes": ["road", "road"]}, "class_names must be unique"),
        ({"colors": [(0, 0, 0)]}, "one color for each of the 2 classes"),
        ({"ignore_value": 1}, "must not be one of the class ids"),
    ],
)
def test_inconsistent_arguments_raise_at_registration(change, complaint):
    with pytest.raises(ValueError, match=complaint):
        registered(**change)


ENTRY = {
    "NAME": "folder_test_set",
    "IMAGES": "mine/images",
    "LABELS": "mine/labels",
    "LABEL_SUFFIX": "_mask",
    "CLASSES": ["road", "car"],
    "COLORS": [[128, 64, 128], [0, 0, 142]],
    "IGNORE_VALUE": 254,
}


def without(key):
    return {name: value for name, value in ENTRY.items() if name != key}


def test_config_entry_is_equivalent_to_the_function(root):
    catalog = Catalog()
    register_folders([ENTRY], catalog=catalog)
    assert len(catalog.get("folder_test_set")) == 4
    called = registered(colors=[(128, 64, 128), (0, 0, 142)], ignore_value=254)
    assert catalog.meta("folder_test_set") == called.meta("mine")
    settings = {"split": ["s"], "label_pattern": "{name}.bmp", "label_suffix": "", "color_map": [[9, 9, 9], [0, 0, 0]]}
    register_folders([{**ENTRY, "NAME": "all", **{key.upper(): v for key, v in settings.items()}}], catalog=catalog)
    arguments = {"images": "mine/images", "labels": "mine/labels", "classes": ("road", "car"), "ignore_value": 254}
    colors = ((128, 64, 128), (0, 0, 142))
    register_folder_sem_seg("all", **arguments, **settings, colors=colors, catalog=catalog)  # equal: no error
    few = {key: ENTRY[key] for key in ("IMAGES", "CLASSES")}
    register_folders([{"NAME": "unlabelled", **few}], catalog=catalog)
    assert catalog.meta("unlabelled") == registered(labels=None).meta("mine")


def test_equal_entry_has_no_effect_and_different_entry_is_a_problem():
    catalog = Catalog()
    register_folders([ENTRY], catalog=catalog)
    register_folders([copy.deepcopy(ENTRY)], catalog=catalog)
    assert parse_folders([copy.deepcopy(ENTRY)], catalog=catalog).problems == ()
    for change in ({"IMAGES": "elsewhere"}, {"CLASSES": ["road", "bus"]}, {"LABEL_SUFFIX": ""}):
        (problem,) = parse_folders([{**ENTRY, **change}], catalog=catalog).problems
        assert problem == (
            "DATASETS.FOLDERS[0].NAME must not be the name of another registered dataset. "
            "Received: DATASETS.FOLDERS[0].NAME='folder_test_set'"
        )
        register_folders([{**ENTRY, **change}], catalog=catalog)
        assert catalog.meta("folder_test_set").class_names == ("road", "car")


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        (["mine"], r"\[0\] must be a mapping with the keys NAME, IMAGES, .*FOLDERS\[0\]='mine'$"),
        ([without("NAME")], r"\[0\] must have the key NAME: a name to use in DATASETS\.TRAIN"),
        ([without("IMAGES")], r"\[0\] must have the key IMAGES: the path of a folder"),
        ([without("CLASSES")], r"\[0\] must have the key CLASSES"),
        ([{**ENTRY, "LABEL": "a"}], r"has an unknown key; nearest: LABELS.*FOLDERS\[0\]\.LABEL='a'$"),
        ([{**ENTRY, 3: "a"}], r"has an unknown key; .*FOLDERS\[0\]\.3='a'$"),
        ([{**ENTRY, "NAME": ""}], r"\[0\]\.NAME must be a name.*NAME=''$"),
        ([{**ENTRY, "NAME": "../a"}], r"\[0\]\.NAME must be a name.*: text of 1 to 80 bytes without /.*NAME='../a'$"),
        ([{**ENTRY, "NAME": ["a"]}], r"\[0\]\.NAME must be a name.*NAME=\['a'\]$"),
        ([{**ENTRY, "LABELS": None}], r"\.LABELS must be the path of a folder, .*; omit it.*LABELS=None$"),
        ([{**ENTRY, "LABEL_SUFFIX": 3}], r"\.LABEL_SUFFIX must be text"),
        ([{**ENTRY, "IMAGES": ["a", "b"]}], r"\[0\]: labels must have one path for each path of images.*\('a', 'b'\)$"),
        ([{**ENTRY, "IMAGES": []}], r"\.IMAGES must be the path of a folder, or a list of paths.*IMAGES=\[\]$"),
        ([{**ENTRY, "SPLIT": ["a", "b"]}], r"\[0\]: split must have one path for each path of images"),
        ([{**ENTRY, "IMAGE_PATTERN": "*.jpg"}], r"\[0\]: image_pattern must contain \{name\} once.*'\*\.jpg'$"),
        ([{**ENTRY, "LABEL_PATTERN": "{name}.tif"}], r"\[0\]: label_suffix must not be combined with label_pattern"),
        (
            [{**without("LABEL_SUFFIX"), "LABEL_PATTERN": "{name}.jpg"}],
            r"label_pattern must end in a supported, lossless",
        ),
        (
            [{**without("LABEL_SUFFIX"), "LABEL_PATTERN": "{name}.npz"}],
            r"label_pattern must end in a supported, lossless",
        ),
        ([{**ENTRY, "LABEL_MAP": ["road"]}], r"\.LABEL_MAP must be a mapping such as \{0: ignore, 1-5: CLASS"),
        ([{**ENTRY, "LABEL_MAP": {1: "raod"}}], r"label_map\[1\] must be .*nearest: road.*label_map\[1\]='raod'$"),
        ([{**ENTRY, "LABEL_MAP": {1: True}}], r"label_map\[1\] must be a class index \(0 to 1\).*quote names"),
        ([{**ENTRY, "LABEL_MAP": {1: 2}}], r"label_map\[1\] must be .*Received: label_map\[1\]=2$"),
        ([{**ENTRY, "LABEL_MAP": {"5-1": 0}}], r"label_map must have keys such as 7 .*Received: key='5-1'$"),
        ([{**ENTRY, "LABEL_MAP": {"9" * 20: 0}}], r"label_map must have keys such as 7"),
        ([{**ENTRY, "LABEL_MAP": {"1-5": 0, 3: 1}}], r"label_map must list each raw id once. Received: 3 twice"),
        ([{**ENTRY, "REDUCE_ZERO": 1}], r"\.REDUCE_ZERO must be True or False"),
        (
            [{**ENTRY, "REDUCE_ZERO": True, "LABEL_MAP": {1: 0}}],
            r"converted in one way.*\['label_map', 'reduce_zero'\]$",
        ),
        ([{**ENTRY, "COLOR_MAP": 3}], r"\.COLOR_MAP must be a list of \[red, green, blue\]"),
        ([{**ENTRY, "COLOR_MAP": [[0, 0, 0]]}], r"color_map must list a color for each of the 2 classes; .* 1 colors$"),
        ([{**ENTRY, "COLOR_MAP": [[0, 0, 0], [0, 0, 0]]}], r"color_map must list colors, each once"),
        ([{**ENTRY, "COLOR_MAP": [[0, 0, 0], [0, 0, 256]]}], r"color_map\[1\] must contain colors such as .* 256\)$"),
        ([{**ENTRY, "COLOR_MAP": {"#00000": "road"}}], r"color_map must contain colors such as .*Received: '#00000'$"),
        ([{**ENTRY, "COLOR_MAP": {"0,0,0": "bus"}}], r"color_map\['0,0,0'\] must be a class index"),
        ([{**ENTRY, "IGNORE_VALUE": 0}], r"\[0\]: ignore_value must not be one of .* set reduce_zero"),
        ([{**ENTRY, "IGNORE_VALUE": 10**9}], r"\.IGNORE_VALUE must be an integer from -32768 to 65535"),
        ([{**ENTRY, "CLASSES": []}], r"\.CLASSES must be a list of names"),
        ([{**ENTRY, "CLASSES": "road"}], r"\.CLASSES must be a list of names"),
        ([{**ENTRY, "CLASSES": ["road", False]}], r"\.CLASSES must be .*quote names.*\['road', False\]$"),
        ([{**ENTRY, "COLORS": [[0, 0, 0], [0, 0, 256]]}], r"\.COLORS must be a list of \[red, green, blue\]"),
        ([{**ENTRY, "COLORS": [[0, 0, 0], [0, 0]]}], r"\.COLORS must be"),
        ([{**ENTRY, "COLORS": [0, 0]}], r"\.COLORS must be"),
        ([{**ENTRY, "COLORS": [[0, 0, 0]]}], r"\[0\]: class_colors must have one color for each of the 2 classes"),
        ([{**ENTRY, "IGNORE_VALUE": "255"}], r"\.IGNORE_VALUE must be an integer.*'255'$"),
        ([{**ENTRY, "IGNORE_VALUE": 1}], r"\[0\]: ignore_value must not be one of the class ids"),
        ([{**ENTRY, "CLASSES": ["a", "a"]}], r"\[0\]: class_names must be unique"),
        ([ENTRY, ENTRY], r"\[1\]\.NAME must be unique.*'folder_test_set'$"),
        ([{**ENTRY, "NAME": "digit_scenes_val"}], r"\[0\]\.NAME must not be the name of another registered dataset"),
    ],
)
def test_invalid_entry_is_a_config_problem(entries, problem):
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.SEM_SEG_HEAD.NUM_CLASSES=11", "DATASETS.TRAIN=[digit_scenes_train]"])
    cfg.DATASETS.FOLDERS = entries
    with pytest.raises(ConfigError, match=rf"^invalid config: DATASETS\.FOLDERS.*{problem}"):
        validate_config(cfg)


def test_every_key_is_documented():
    readme = (Path(__file__).parents[3] / "datasets" / "README.md").read_text()
    for key in ENTRY_KEYS:
        assert f"{key}:" in readme
        assert f"`{key}`" in KEYS["DATASETS.FOLDERS"].doc


def test_validation_uses_folders_before_they_are_registered():
    cfg = get_cfg()
    cfg.merge_from_other_cfg({"DATASETS": {"FOLDERS": [ENTRY], "TRAIN": ["folder_test_set"]}})
    cfg.merge_from_list(["MODEL.SEM_SEG_HEAD.NUM_CLASSES=2", "MODEL.SEM_SEG_HEAD.IGNORE_VALUE=254"])
    validate_config(cfg)
    assert "folder_test_set" not in DatasetCatalog.names()
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = 3
    cfg.DATASETS.FOLDERS = [without("LABELS"), {"NAME": "broken"}]
    cfg.DATASETS.TEST = ["broken", "folder_test_sett"]
    with pytest.raises(ConfigError) as caught:
        validate_config(cfg)
    message = str(caught.value)
    assert "5 problems" in message
    assert message.count("[1] must") == 2  # the name of the invalid entry is not reported as unknown in addition
    assert "DATASETS.TRAIN contains folder_test_set, which has no labels" in message
    assert "NUM_CLASSES must be 2, the number of classes of the dataset folder_test_set" in message
    assert "contains 'folder_test_sett', which is not a registered dataset; nearest: folder_test_set" in message
