"""PASCAL VOC and its SBD augmentation, on miniature datasets."""

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from dl_lib.data.catalog import DatasetCatalog, voc_colormap
from dl_lib.data.datasets.sbd import augmented_names, read_sbd_label
from dl_lib.data.datasets.voc import VOC_META, VOC_PALETTE
from dl_lib.data.errors import MissingDataError, UnreadableFileError
from dl_lib.data.files import UnpairedFilesError
from tests.helpers.dataset_files import AUGMENTED_NAMES, SBD_NAMES, VOC_NAMES, save_sbd_label, write_sbd, write_voc

AUGMENTED = "voc_2012_aug_sem_seg_train"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Read-only dataset."""
    root = tmp_path_factory.mktemp("datasets")
    write_voc(root)
    write_sbd(root)
    return root


@pytest.fixture
def root(tree, monkeypatch):
    monkeypatch.setenv("DL_DATASETS", str(tree))
    return tree


@pytest.fixture
def own_root(tmp_path, monkeypatch):
    """Dataset that a test may modify."""
    monkeypatch.setenv("DL_DATASETS", str(tmp_path))
    write_voc(tmp_path)
    write_sbd(tmp_path)
    return tmp_path


def test_palette_matches_the_development_kit():
    known = {
        **{0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 7: (128, 128, 128)},
        **{8: (64, 0, 0), 9: (192, 0, 0), 15: (192, 128, 128), 16: (0, 64, 0), 20: (0, 64, 128), 255: (224, 224, 192)},
    }
    assert {label: VOC_PALETTE[label] for label in known} == known
    assert len(VOC_PALETTE) == len(set(VOC_PALETTE)) == 256
    assert len(set(voc_colormap(5000))) == 5000
    assert VOC_META.class_colors == VOC_PALETTE[:21]


def test_classes():
    assert VOC_META.num_classes == 21
    assert VOC_META.class_names[0] == "background"
    assert list(VOC_META.class_names[1:]) == sorted(VOC_META.class_names[1:])
    assert (VOC_META.ignore_value, VOC_META.benchmark) == (255, "voc")


@pytest.mark.parametrize("split", ["train", "val", "trainval"])
def test_labelled_splits(root, split):
    names = sorted(VOC_NAMES["train"] + VOC_NAMES["val"]) if split == "trainval" else VOC_NAMES[split]
    dataset = DatasetCatalog.get(f"voc_2012_sem_seg_{split}")
    samples = [dataset[index] for index in range(len(dataset))]
    assert [sample["image_id"] for sample in samples] == names
    folder = root / "VOCdevkit" / "VOC2012"
    for sample in samples:
        name = sample["image_id"]
        assert sample["file_name"] == str(folder / "JPEGImages" / f"{name}.jpg")
        np.testing.assert_array_equal(sample["image"], np.asarray(Image.open(sample["file_name"])))
        label = Image.open(folder / "SegmentationClass" / f"{name}.png")
        assert label.mode == "P"
        np.testing.assert_array_equal(sample["sem_seg"], np.asarray(label))
        assert {0, 255} < set(np.unique(sample["sem_seg"]).tolist()) <= {*range(21), 255}
    assert len({sample["image"].shape for sample in samples}) == len(samples)  # sizes differ
    assert DatasetCatalog.meta(f"voc_2012_sem_seg_{split}") == VOC_META


def test_test_split_is_unlabelled(root):
    dataset = DatasetCatalog.get("voc_2012_sem_seg_test")
    assert [dataset[index]["image_id"] for index in range(len(dataset))] == VOC_NAMES["test"]
    assert all("sem_seg" not in dataset[index] for index in range(len(dataset)))
    assert not DatasetCatalog.meta("voc_2012_sem_seg_test").labelled


def test_augmented_split_excludes_the_validation_split(root):
    assert augmented_names() == AUGMENTED_NAMES
    listed = {*SBD_NAMES["train"], *SBD_NAMES["val"], *VOC_NAMES["train"]}
    assert set(AUGMENTED_NAMES) == listed - set(VOC_NAMES["val"])
    dataset = DatasetCatalog.get(AUGMENTED)
    samples = {dataset[index]["image_id"]: dataset[index] for index in range(len(dataset))}
    assert list(samples) == AUGMENTED_NAMES
    voc = DatasetCatalog.get("voc_2012_sem_seg_train")
    for index, name in enumerate(VOC_NAMES["train"]):  # including images that SBD annotates
        np.testing.assert_array_equal(samples[name]["sem_seg"], voc[index]["sem_seg"])
        assert samples[name]["file_name"] == voc[index]["file_name"]
    for name in set(AUGMENTED_NAMES) - set(VOC_NAMES["train"]):
        assert samples[name]["file_name"] == str(root / "sbd" / "img" / f"{name}.jpg")
        np.testing.assert_array_equal(
            samples[name]["sem_seg"], read_sbd_label(str(root / "sbd" / "cls" / f"{name}.mat"))
        )
        assert 0 < samples[name]["sem_seg"].max() <= 20
        assert samples[name]["sem_seg"].shape == samples[name]["image"].shape[:2]


def test_sbd_label_round_trip(tmp_path):
    label = np.arange(35, dtype=np.uint8).reshape(5, 7) % 21
    save_sbd_label(tmp_path / "a.mat", label)
    np.testing.assert_array_equal(read_sbd_label(str(tmp_path / "a.mat")), label)


def test_unpaired_files_raise(own_root):
    folder = own_root / "VOCdevkit" / "VOC2012"
    (folder / "JPEGImages" / "2007_000032.jpg").unlink()
    (folder / "SegmentationClass" / "2007_000063.png").unlink()
    message = r"found 2 pairs; without a label: 1 \(2007_000063\); without an image: 1 \(2007_000032\)"
    with pytest.raises(UnpairedFilesError, match=message):
        DatasetCatalog.get("voc_2012_sem_seg_train")
    with pytest.raises(UnpairedFilesError, match=message.replace("found 2", "found 5")) as caught:
        DatasetCatalog.get(AUGMENTED)  # SBD has a label for 2007_000063, but VOC's takes precedence
    assert len(caught.value.usable) == 5


@pytest.mark.parametrize(
    ("gone", "name"),
    [
        ("VOCdevkit/VOC2012/JPEGImages", "voc_2012_sem_seg_test"),
        ("VOCdevkit/VOC2012/SegmentationClass", "voc_2012_sem_seg_val"),
        ("VOCdevkit/VOC2012/ImageSets/Segmentation/trainval.txt", "voc_2012_sem_seg_trainval"),
        ("VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt", AUGMENTED),
        ("sbd/val.txt", AUGMENTED),
        ("sbd/cls", AUGMENTED),
    ],
)
def test_missing_path_raises_with_the_layout(own_root, gone, name):
    (own_root / gone).rename(own_root / "elsewhere")
    with pytest.raises(MissingDataError, match=r"Expected .*VOCdevkit/VOC2012.*README") as caught:
        DatasetCatalog.get(name)
    assert str(caught.value).endswith(f"path='{own_root}/{gone}'")


def test_lists_and_files_from_windows(own_root):
    """Byte-order marks, CR LF and suffixes in upper case change nothing."""
    for split in ("val", "train"):
        path = own_root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / f"{split}.txt"
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b" \r\n"))
    for folder, endings in (("img", (".jpg", ".JPG")), ("cls", (".mat", ".MAT"))):
        for path in (own_root / "sbd" / folder).iterdir():
            assert path.suffix == endings[0]
            path.rename(path.with_suffix(endings[1]))
    dataset = DatasetCatalog.get(AUGMENTED)
    assert [dataset[index]["image_id"] for index in range(len(dataset))] == AUGMENTED_NAMES


def test_empty_split_list_raises(own_root):
    path = own_root / "VOCdevkit" / "VOC2012" / "ImageSets" / "Segmentation" / "val.txt"
    path.write_text("")
    with pytest.raises(MissingDataError, match="no images"):
        DatasetCatalog.get("voc_2012_sem_seg_val")


@pytest.mark.parametrize(
    ("content", "received"),
    [
        ({"GTinst": {"Segmentation": np.zeros((4, 5), np.uint8)}}, "no struct GTcls"),
        ({"GTcls": {"Boundaries": np.zeros((4, 5), np.uint8)}}, "no field Segmentation"),
        ({"GTcls": {"Segmentation": np.zeros((4, 5))}}, "class=double, shape=(4, 5)"),
        ({"GTcls": {"Segmentation": np.zeros((4, 5, 3), np.uint8)}}, "class=uint8, shape=(4, 5, 3)"),
        ({"GTcls": {"Segmentation": "text"}}, "class=char, shape=(1, 4)"),
    ],
)
def test_matlab_file_with_other_content_raises(tmp_path, content, received):
    path = tmp_path / "label.mat"
    savemat(path, content)
    with pytest.raises(UnreadableFileError) as caught:
        read_sbd_label(str(path))
    assert str(path) in str(caught.value)
    assert received in str(caught.value).partition("Received: ")[2]


def test_damaged_or_missing_matlab_file_raises(tmp_path):
    path = tmp_path / "label.mat"
    with pytest.raises(MissingDataError, match=r"label\.mat"):
        read_sbd_label(str(path))
    save_sbd_label(path, np.random.default_rng(0).integers(0, 21, (40, 50)).astype(np.uint8))
    whole = path.read_bytes()
    for data in (b"text", whole[:100], whole[:150], whole[: len(whole) // 2], whole[:-8]):
        path.write_bytes(data)
        with pytest.raises(UnreadableFileError, match=r"label\.mat is damaged or not an SBD label"):
            read_sbd_label(str(path))
