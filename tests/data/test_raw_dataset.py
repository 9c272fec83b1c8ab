"""The name that a data set gives a sample is the one that stands in the sample, whatever it is wrapped in."""

from pathlib import Path

import pytest
from torch.utils.data import ConcatDataset, Subset

from dl_lib.data.cache import cached_dataset
from dl_lib.data.datasets.coco import CocoSource
from dl_lib.data.datasets.digit_scenes import DigitScenes
from dl_lib.data.datasets.folder import FolderSource
from dl_lib.data.raw_dataset import sample_name
from tests.helpers.dataset_files import write_coco


class Nameless:
    """Its samples are made, and have no files."""


@pytest.fixture
def datasets(tmp_path, monkeypatch):
    monkeypatch.setenv("DL_DATASETS", str(tmp_path))
    write_coco(tmp_path)
    folder = FolderSource("coco/images", None, classes=("a", "b"))()
    (tmp_path / "coco" / "images" / "000000000099.jpg").write_bytes(b"torn")
    return {
        "folder": folder,
        "coco": CocoSource("coco/annotations.json", "coco/images", background=None, ignore_value=255)(),
        "scenes": DigitScenes("val", length=2),
        "cached": cached_dataset(folder, name="cached", folder=tmp_path),
    }


def test_names_are_those_in_the_samples(datasets):
    seen = set()
    for dataset in datasets.values():
        for index in (0, len(dataset) - 1):
            name = sample_name(dataset, index)
            if not name.endswith("099.jpg"):
                assert name == dataset[index]["file_name"]
            seen.add(Path(name).name)
    assert seen == {"000000000098.jpg", "000000000100.jpg", "val_000000", "val_000001"}


def test_a_sample_that_the_cache_lacks_is_named_as_its_data_set_does(datasets):
    assert sample_name(datasets["cached"], 1) == sample_name(datasets["folder"], 1)
    assert sample_name(datasets["cached"], 1).endswith("099.jpg")


def test_parts_and_sums_of_data_sets_are_looked_through(datasets):
    scenes, folder = datasets["scenes"], datasets["folder"]
    both = ConcatDataset([scenes, Subset(ConcatDataset([folder, scenes]), [4, 0])])
    assert [sample_name(both, index) for index in range(4)] == [
        *("val_000000", "val_000001", "val_000001"),
        folder.file_name(0),
    ]


def test_without_a_name_a_sample_has_its_number():
    assert sample_name(Subset(Nameless(), [7, 9]), 1) == "index 9 of Nameless"
