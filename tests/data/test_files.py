"""Dataset files: root folder, listing, image-label pairs, and the dataset of the pairs."""

import os
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dl_lib.data.datasets.file_dataset import FileDataset, build_file_dataset
from dl_lib.data.errors import DataError, MissingDataError, UnreadableFileError
from dl_lib.data.files import (
    FileRecord,
    PairedFiles,
    UnpairedFilesError,
    datasets_root,
    ensure_exists,
    find_files,
    pair_files,
    read_names,
    resolve_path,
)


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_find_files_matches_endings_at_any_depth(tmp_path):
    touch(tmp_path, "b/x_img.png", "a/y_img.PNG", "z_img.png", "a/y_other.png", "a/._y_img.png", "a/b/img.png")
    names = {"b/x": "b/x_img.png", "a/y": "a/y_img.PNG", "z": "z_img.png"}
    assert find_files(tmp_path, endings=["_img.png"]) == {name: str(tmp_path / file) for name, file in names.items()}
    assert set(find_files(tmp_path, endings=["_img.png"], flat=True)) == {"x", "y", "z"}
    assert find_files(tmp_path, endings=[".jpg"]) == {}


@pytest.mark.parametrize(
    ("prefix", "ending", "files", "names"),
    [
        ("img_", ".png", ["img_1.png", "a/IMG_2.PNG", "xmg_3.png", "a/img_.png"], {"1", "a/2"}),
        ("images/", ".png", ["a/images/1.png", "images/2.png", "a/masks/1.png", "a/images/b/3.png"], {"a/1", "2"}),
        ("", "/image.png", ["a/image.png", "b/c/image.png", "a/mask.png"], {"a", "b/c"}),
        ("", "_Ä.png", ["1_A\u0308.png", "2_ä.png", "e\u0301_ä.png"], {"1", "2", "é"}),
    ],
)
def test_find_files_matches_prefixes_folders_and_unicode_forms(tmp_path, prefix, ending, files, names):
    touch(tmp_path, *files)
    assert set(find_files(tmp_path, endings=[ending], prefix=prefix)) == names


def test_hidden_and_system_files_are_skipped(tmp_path):
    root = tmp_path / ".data"  # may be hidden itself
    touch(root, "a/1.png", "a/._1.png", ".ipynb_checkpoints/1-checkpoint.png", ".Trash-1000/files/2.png")
    touch(root, "a/@eaDir/1.png/THUMB.png", "__MACOSX/a/1.png", "$RECYCLE.BIN/3.png", "a/b/.hidden/4.png", "Thumbs.db")
    assert set(find_files(root, endings=[".png"])) == {"a/1"}
    os.mkfifo(root / "5.png")  # reading it would never end
    assert set(find_files(root, endings=[".png", ".db"])) == {"a/1", "Thumbs"}


@pytest.mark.parametrize("name", [b"stra\xdfe.png", b"a\x1b[31m.png", b"a\nb.png"])
def test_paths_that_are_not_printable_are_rejected(tmp_path, name):
    (tmp_path / os.fsdecode(name)).touch()
    shown = re.escape(f"{tmp_path}/{ascii(name)[2:-1]}")
    with pytest.raises(DataError, match=rf"must be UTF-8 without control .*Received: path={shown}$"):
        find_files(tmp_path, endings=[".png"])
    assert find_files(tmp_path, endings=[".jpg"]) == {}  # other files may have any name


def test_unreadable_folder_raises(tmp_path):
    with pytest.raises(UnreadableFileError, match=r"absent cannot be listed.*Received: No such file or directory$"):
        find_files(tmp_path / "absent", endings=[".png"])


def test_symbolic_links_are_followed(tmp_path):
    touch(tmp_path, "disk/1.png", "disk/sub/2.png", ".store/4.png")
    here = tmp_path / "here"
    here.mkdir()
    (here / "city").symlink_to(tmp_path / "disk")
    (here / "3.png").symlink_to(tmp_path / "disk" / "1.png")
    (here / "stored").symlink_to(tmp_path / ".store")
    (here / "broken.png").symlink_to(tmp_path / "absent.png")  # reported when it is read
    (tmp_path / "link").symlink_to(here)
    for folder in (here, tmp_path / "link"):
        assert set(find_files(folder, endings=[".png"])) == {"city/1", "city/sub/2", "3", "stored/4", "broken"}


@pytest.mark.parametrize(
    "links",
    [
        {"img/self": "."},
        {"img/up": ".."},
        {"img/a/up": "../.."},
        {"img/z/back": "../a", "img/a/there": "../z"},  # real folders take precedence over links, in any order
        {"img/a/x": "../../other", "other/y": "../img/a", "other/z": "."},
        {"img/loop": "loop"},
    ],
)
def test_every_folder_is_listed_once(tmp_path, links):
    touch(tmp_path, "img/0.png", "img/a/1.png", "img/z/2.png", "other/note.txt", "masks/0.png")
    for link, target in links.items():
        (tmp_path / link).symlink_to(target)
    assert set(find_files(tmp_path / "img", endings=[".png"])) == {"0", "a/1", "z/2"}


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


def test_duplicate_name_raises(tmp_path):
    touch(tmp_path, "a/1.png", "a/1.jpg", "b/2.png", "c/2.png")
    with pytest.raises(DataError, match=r"the name 'a/1'.*Received: files=\['.*a/1\.jpg', '.*a/1\.png'\]$"):
        find_files(tmp_path, endings=[".png", ".jpg"])
    assert len(find_files(tmp_path, endings=[".png"])) == 3
    with pytest.raises(DataError, match="the name '2'"):
        find_files(tmp_path, endings=[".png"], flat=True)


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
