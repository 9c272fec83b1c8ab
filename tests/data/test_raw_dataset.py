"""Names and image sizes of samples without reading the samples."""

from pathlib import Path

import pytest
from torch.utils.data import ConcatDataset, Subset

from dl_lib.data.cache import cached_dataset
from dl_lib.data.datasets.coco import CocoSource
from dl_lib.data.datasets.digit_scenes import DigitScenes
from dl_lib.data.datasets.folder import FolderSource
from dl_lib.data.errors import DataError
from dl_lib.data.raw_dataset import image_size, sample_name
from tests.helpers.dataset_files import write_coco


class WithoutFileNames:
    """Dataset without a file_name method."""


@pytest.fixture
def datasets(root):
    write_coco(root)
    folder = FolderSource("coco/images", None, classes=("a", "b"))()
    (root / "coco" / "images" / "000000000099.jpg").write_bytes(b"damaged")
    return {
        "folder": folder,
        "coco": CocoSource("coco/annotations.json", "coco/images", background=None, ignore_value=255)(),
        "scenes": DigitScenes("val", length=2),
        "cached": cached_dataset(folder, name="cached", folder=root),
    }


def test_sample_name_is_the_file_name_of_the_sample(datasets):
    seen = set()
    for dataset in datasets.values():
        for index in (0, len(dataset) - 1):
            name = sample_name(dataset, index)
            if not name.endswith("099.jpg"):
                assert name == dataset[index]["file_name"]
            seen.add(Path(name).name)
    assert seen == {"000000000098.jpg", "000000000100.jpg", "val_000000", "val_000001"}


def test_sample_missing_in_the_cache_is_named_by_its_dataset(datasets):
    assert sample_name(datasets["cached"], 1) == sample_name(datasets["folder"], 1)
    assert sample_name(datasets["cached"], 1).endswith("099.jpg")


def test_subset_and_concatenation_are_resolved(datasets):
    scenes, folder = datasets["scenes"], datasets["folder"]
    both = ConcatDataset([scenes, Subset(ConcatDataset([folder, scenes]), [4, 0])])
    assert [sample_name(both, index) for index in range(4)] == [
        *("val_000000", "val_000001", "val_000001"),
        folder.file_name(0),
    ]


def test_image_sizes_are_those_of_the_samples(datasets):
    folder = datasets["folder"]
    both = ConcatDataset([datasets["scenes"], Subset(folder, [0]), datasets["coco"], [folder[0]]])
    for index in (0, 1, 2, 3, len(both) - 1):
        assert image_size(both, index) == both[index]["image"].shape[:2]
    with pytest.raises(DataError, match=r"099\.jpg is damaged"):
        image_size(folder, 1)
    Path(folder.file_name(1)).unlink()
    with pytest.raises(DataError, match=r"does not exist.*099\.jpg"):
        image_size(folder, 1)


def test_dataset_without_file_names_falls_back_to_the_index():
    assert sample_name(Subset(WithoutFileNames(), [7, 9]), 1) == "index 9 of WithoutFileNames"
