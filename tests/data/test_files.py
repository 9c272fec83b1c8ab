"""Dataset files: root folder, split lists, image-label pairs, and the dataset of the pairs."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dl_lib.data.datasets.file_dataset import FileDataset, build_file_dataset
from dl_lib.data.errors import DataError, MissingDataError
from dl_lib.data.files import (
    FileRecord,
    PairedFiles,
    UnpairedFilesError,
    datasets_root,
    ensure_exists,
    pair_files,
    read_names,
    resolve_path,
)


def test_split_list(tmp_path):
    path = tmp_path / "train.txt"
    path.write_bytes("\ufeff1 \r\n\r\na b/2\r\ne\u0301".encode())
    assert read_names(path) == ["1", "a b/2", "é"]
    for content, problem in (
        ("é".encode("latin-1"), "UTF-8 with one name per line"),
        (b"1\n2\n1", r"repeated=\['1'\]"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"train\.txt must .*{problem}"):
            read_names(path)


def test_pairs_are_sorted_and_unpaired_names_are_listed():
    images = {"c": "c.jpg", "a": "a.jpg", "b": "b.jpg"}
    labels = {"b": "b.png", "c": "c.png", "d": "d.png"}
    assert pair_files(["d", "c", "e", "b", "a"], images=images, labels=labels) == PairedFiles(
        records=(FileRecord("b", "b.jpg", "b.png"), FileRecord("c", "c.jpg", "c.png")),
        without_label=("a", "e"),
        without_image=("d", "e"),
    )
    assert pair_files(["c", "e"], images=images) == PairedFiles((FileRecord("c", "c.jpg"),), without_image=("e",))


def test_unpaired_files_raise_with_the_dataset_of_the_pairs(tmp_path):
    Image.fromarray(np.full((4, 5), 7, np.uint8)).save(tmp_path / "0.png")
    images = {str(number): str(tmp_path / f"{number}.png") for number in range(6)}
    found = pair_files([*images, "9"], images=images, labels={"0": images["0"], "9": "9.png"})
    with pytest.raises(UnpairedFilesError) as caught:
        build_file_dataset(found, location="my folder")
    message = str(caught.value)
    assert "images and labels in my folder" in message
    assert "without a label: 5 (1, 2, 3, ...); without an image: 1 (9)." in message
    assert message.endswith("Received: without_label=5, without_image=1")
    assert caught.value.paired == found
    assert len(caught.value.usable) == 1
    np.testing.assert_array_equal(caught.value.usable[0]["sem_seg"], np.full((4, 5), 7))


def test_no_images_raise():
    with pytest.raises(MissingDataError, match="my folder contains no images"):
        build_file_dataset(pair_files([], images={}, labels={}), location="my folder")


def test_samples_are_read_on_access(tmp_path):
    image, label = np.arange(60, dtype=np.uint8).reshape(4, 5, 3), np.eye(4, 5, dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "image.png")
    Image.fromarray(label).save(tmp_path / "label.png")
    path = str(tmp_path / "image.png")
    records = [FileRecord("one", path, str(tmp_path / "label.png")), FileRecord("two", path), FileRecord("lost", "x")]
    dataset = pickle.loads(pickle.dumps(FileDataset(records)))
    assert len(dataset) == 3
    sample = dataset[0]
    np.testing.assert_array_equal(sample["image"], image)
    np.testing.assert_array_equal(sample["sem_seg"], label)
    assert (sample["image_id"], sample["file_name"]) == ("one", path)
    assert set(dataset[1]) == {"image", "image_id", "file_name"}
    with pytest.raises(MissingDataError):
        dataset[2]
    with pytest.raises(IndexError):
        dataset[3]


def test_datasets_root_is_set_by_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DL_DATASETS", str(tmp_path))
    assert datasets_root() == tmp_path
    assert resolve_path("mine/images") == tmp_path / "mine" / "images"
    assert resolve_path(str(tmp_path / "elsewhere")) == tmp_path / "elsewhere"
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("DL_DATASETS", "~/data")
    assert datasets_root() == Path("/home/me/data")


@pytest.mark.parametrize("value", [None, ""])
def test_default_datasets_root_is_in_the_working_directory(monkeypatch, value):
    monkeypatch.delenv("DL_DATASETS", raising=False)
    if value is not None:
        monkeypatch.setenv("DL_DATASETS", value)
    assert datasets_root() == Path("datasets")


def test_missing_path_raises_with_the_expected_layout(monkeypatch, tmp_path):
    monkeypatch.setenv("DL_DATASETS", str(tmp_path))
    assert ensure_exists(tmp_path, layout="anything") == tmp_path
    with pytest.raises(MissingDataError) as caught:
        ensure_exists(tmp_path / "absent", layout="a folder called absent")
    message = str(caught.value)
    assert "Expected a folder called absent; datasets/README.md" in message
    assert message.endswith(f"Received: DL_DATASETS={str(tmp_path)!r}, path={str(tmp_path / 'absent')!r}")
