"""Which files are found, what belongs together, and what a sample is."""

import pickle

import numpy as np
import pytest
from PIL import Image

from dl_lib.data.datasets.file_dataset import FileDataset, build_file_dataset
from dl_lib.data.errors import DataError, MissingDataError, UnreadableFileError
from dl_lib.data.files import FileRecord, PairedFiles, UnpairedFilesError, find_files, pair_files


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_files_are_found_by_their_endings_at_any_depth(tmp_path):
    touch(tmp_path, "b/x_img.png", "a/y_img.PNG", "z_img.png", "a/y_other.png", "a/._y_img.png", "a/b/img.png")
    names = {"b/x": "b/x_img.png", "a/y": "a/y_img.PNG", "z": "z_img.png"}
    assert find_files(tmp_path, endings=["_img.png"]) == {name: str(tmp_path / file) for name, file in names.items()}
    assert set(find_files(tmp_path, endings=["_img.png"], flat=True)) == {"x", "y", "z"}
    assert find_files(tmp_path, endings=[".jpg"]) == {}


def test_a_folder_that_cannot_be_listed_is_not_passed_over(tmp_path):
    with pytest.raises(UnreadableFileError, match=r"absent cannot be listed.*Received: No such file or directory$"):
        find_files(tmp_path / "absent", endings=[".png"])


def test_links_are_followed(tmp_path):
    touch(tmp_path, "disk/1.png")
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "city").symlink_to(tmp_path / "disk")
    assert set(find_files(tmp_path / "here", endings=[".png"])) == {"city/1"}


def test_two_files_of_one_name_are_refused(tmp_path):
    touch(tmp_path, "a/1.png", "a/1.jpg", "b/2.png", "c/2.png")
    with pytest.raises(DataError, match=r"the name 'a/1'.*Received: files=\['.*a/1\.jpg', '.*a/1\.png'\]$"):
        find_files(tmp_path, endings=[".png", ".jpg"])
    assert len(find_files(tmp_path, endings=[".png"])) == 3
    with pytest.raises(DataError, match="the name '2'"):
        find_files(tmp_path, endings=[".png"], flat=True)


def test_pairs_come_in_the_order_of_their_names_and_the_rest_is_told():
    images = {"c": "c.jpg", "a": "a.jpg", "b": "b.jpg"}
    labels = {"b": "b.png", "c": "c.png", "d": "d.png"}
    assert pair_files(["d", "c", "e", "b", "a"], images=images, labels=labels) == PairedFiles(
        records=(FileRecord("b", "b.jpg", "b.png"), FileRecord("c", "c.jpg", "c.png")),
        without_label=("a", "e"),
        without_image=("d", "e"),
    )
    assert pair_files(["c", "e"], images=images) == PairedFiles((FileRecord("c", "c.jpg"),), without_image=("e",))


def test_unpaired_files_are_counted_and_what_fits_can_still_be_used(tmp_path):
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


def test_nothing_at_all_is_an_error():
    with pytest.raises(MissingDataError, match="my folder contains no images"):
        build_file_dataset(pair_files([], images={}, labels={}), location="my folder")


def test_a_sample_is_read_when_it_is_asked_for(tmp_path):
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
