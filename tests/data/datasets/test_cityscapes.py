"""Cityscapes: label table against cityscapesScripts, id conversion, and listing of a miniature dataset."""

from dataclasses import replace

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels as official_labels
from PIL import Image

from dl_lib.data.catalog import DatasetCatalog
from dl_lib.data.datasets.cityscapes import CITYSCAPES_META, read_cityscapes_label
from dl_lib.data.datasets.cityscapes_labels import CITYSCAPES_LABELS, TRAIN_ID_TO_ID
from dl_lib.data.errors import InvalidSampleError, MissingDataError
from dl_lib.data.files import UnpairedFilesError
from tests.helpers.dataset_files import CITIES, save_png, write_cityscapes

FINE = "cityscapes_fine_sem_seg_"
COARSE = "cityscapes_coarse_sem_seg_train_extra"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Read-only dataset."""
    root = tmp_path_factory.mktemp("datasets")
    write_cityscapes(root, images_per_city=2, coarse=True)
    return root


@pytest.fixture
def root(tree, monkeypatch):
    monkeypatch.setenv("DL_DATASETS", str(tree))
    return tree


@pytest.fixture
def own_root(tmp_path, monkeypatch):
    """Dataset that a test may modify."""
    monkeypatch.setenv("DL_DATASETS", str(tmp_path))
    write_cityscapes(tmp_path, train_ids=True)
    return tmp_path


def test_labels_match_cityscapesscripts():
    fields = (
        *("id", "name", "trainId", "category", "categoryId", "hasInstances", "ignoreInEval", "color"),
        *("id", "name", "train_id", "category", "category_id", "has_instances", "ignore_in_eval", "color"),
    )
    assert len(CITYSCAPES_LABELS) == len(official_labels) == 35
    for ours, theirs in zip(CITYSCAPES_LABELS, official_labels, strict=True):
        assert [getattr(theirs, name) for name in fields[:8]] == [getattr(ours, name) for name in fields[8:]]


def test_classes_are_the_evaluated_labels_sorted_by_train_id():
    scored = {label.trainId: label for label in official_labels if 0 <= label.trainId < 255}
    assert sorted(scored) == list(range(19))
    assert CITYSCAPES_META.class_names == tuple(scored[train_id].name for train_id in range(19))
    assert CITYSCAPES_META.class_colors == tuple(scored[train_id].color for train_id in range(19))
    assert tuple(scored[train_id].id for train_id in range(19)) == TRAIN_ID_TO_ID
    assert (CITYSCAPES_META.ignore_value, CITYSCAPES_META.benchmark) == (255, "cityscapes")


def test_ids_are_converted_to_official_train_ids(tmp_path):
    ids = np.arange(34, dtype=np.uint8).repeat(3).reshape(6, 17)
    path = tmp_path / "a_gtFine_labelIds.png"
    save_png(path, ids)
    official = {label.id: label.trainId for label in official_labels}
    np.testing.assert_array_equal(
        read_cityscapes_label(str(path)), [[official[number] for number in row] for row in ids.tolist()]
    )


@pytest.mark.parametrize("unknown", [34, 100, 254, 255])
def test_unknown_id_raises(tmp_path, unknown):
    ids = np.full((4, 5), 7, np.uint8)
    ids[1, 2:4] = unknown
    path = tmp_path / "a_gtFine_labelIds.png"
    save_png(path, ids)
    with pytest.raises(InvalidSampleError) as caught:
        read_cityscapes_label(str(path))
    assert str(caught.value).startswith(f"{path} contains ids that Cityscapes does not define")
    assert str(caught.value).endswith(f"Received: ids=[{unknown}] in 2 of 20 pixels")


def test_label_with_16_bits_raises(tmp_path):
    path = tmp_path / "a_gtFine_labelIds.png"
    save_png(path, np.full((4, 5), 7, np.uint16))
    with pytest.raises(InvalidSampleError, match=r"8 bits.*Received: dtype=uint16"):
        read_cityscapes_label(str(path))


@pytest.mark.parametrize("name", [f"{FINE}train", f"{FINE}val", COARSE])
def test_labelled_splits(root, name):
    split = "train_extra" if name == COARSE else name.removeprefix(FINE)
    dataset = DatasetCatalog.get(name)
    cities = [city for city in CITIES[split] for _ in range(2)]
    samples = [dataset[index] for index in range(len(dataset))]
    assert [sample["image_id"] for sample in samples] == [
        f"{city}_{index:06d}_000019" for index, city in enumerate(cities)
    ]
    for sample, city in zip(samples, cities, strict=True):
        path = root / "cityscapes" / "leftImg8bit" / split / city / f"{sample['image_id']}_leftImg8bit.png"
        assert sample["file_name"] == str(path)
        np.testing.assert_array_equal(sample["image"], np.asarray(Image.open(path)))
        assert set(np.unique(sample["sem_seg"]).tolist()) == {*range(19), 255}  # the dataset contains all 34 ids
        assert sample["sem_seg"].dtype == np.uint8
    assert DatasetCatalog.meta(name) == replace(CITYSCAPES_META, sparse=name == COARSE)


def test_test_split_is_unlabelled(root):
    dataset = DatasetCatalog.get(f"{FINE}test")
    assert len(dataset) == 4
    assert all("sem_seg" not in dataset[index] for index in range(4))
    meta = DatasetCatalog.meta(f"{FINE}test")
    assert (meta.labelled, meta.num_classes, meta.benchmark) == (False, 19, "cityscapes")


def test_train_id_files_take_precedence_over_id_files(own_root):
    labels = own_root / "cityscapes" / "gtFine" / "train"
    before = [DatasetCatalog.get(f"{FINE}train")[index]["sem_seg"] for index in range(2)]
    for city, ending in zip(CITIES["train"], (".PNG", ".png"), strict=True):  # letter case has no effect
        (train_ids,) = (labels / city).glob("*_labelTrainIds.png")
        save_png(train_ids, np.full((64, 128), 18, np.uint8))
        train_ids.rename(train_ids.with_suffix(ending))
    (labels / "bochum" / train_ids.name).unlink()
    dataset = DatasetCatalog.get(f"{FINE}train")
    np.testing.assert_array_equal(dataset[0]["sem_seg"], np.full((64, 128), 18))
    np.testing.assert_array_equal(dataset[1]["sem_seg"], before[1])  # converted from the id file


def test_unpaired_files_raise(own_root):
    for path in (own_root / "cityscapes" / "gtFine" / "val" / "munster").glob("*_label*.png"):
        path.unlink()
    with pytest.raises(
        UnpairedFilesError, match=r"without a label: 1 \(munster_000001_000019\); without an image: none"
    ) as caught:
        DatasetCatalog.get(f"{FINE}val")
    assert [caught.value.usable[0]["image_id"]] == ["frankfurt_000000_000019"]


@pytest.mark.parametrize(("gone", "name"), [("leftImg8bit/val", "val"), ("gtFine", "train"), ("leftImg8bit", "test")])
def test_missing_folder_raises_with_the_layout(own_root, gone, name):
    (own_root / "cityscapes" / gone).rename(own_root / "elsewhere")
    with pytest.raises(MissingDataError) as caught:
        DatasetCatalog.get(FINE + name)
    assert f"Expected cityscapes/leftImg8bit/{name}/CITY/*_leftImg8bit.png" in str(caught.value)
    assert f"path='{own_root}/cityscapes/{gone}" in str(caught.value)
