"""Listing of dataset files: names, hidden files and links."""

import os
import re

import pytest

from dl_lib.data.errors import DataError, UnreadableFileError
from dl_lib.data.listing import find_files


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


def test_duplicate_name_raises(tmp_path):
    touch(tmp_path, "a/1.png", "a/1.jpg", "b/2.png", "c/2.png")
    with pytest.raises(DataError, match=r"the name 'a/1'.*Received: files=\['.*a/1\.jpg', '.*a/1\.png'\]$"):
        find_files(tmp_path, endings=[".png", ".jpg"])
    assert len(find_files(tmp_path, endings=[".png"])) == 3
    with pytest.raises(DataError, match="the name '2'"):
        find_files(tmp_path, endings=[".png"], flat=True)
