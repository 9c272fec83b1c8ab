"""Inputs of a predictor: order, names, folders, glob patterns and videos."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dl_lib.data.errors import InvalidSampleError, MissingDataError, UnreadableFileError
from dl_lib.prediction.inputs import find_files, image_inputs, is_single
from dl_lib.prediction.pixels import WHITE
from tests.helpers.videos import COLORS, write_video

PIXELS = np.zeros((4, 5, 3), np.uint8)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Current folder with images, hidden and other files in subfolders."""
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.JPG", "sub/c.tif", "sub/deep/d.png", ".hidden.png", ".cache/e.png", "notes.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"text")
    Image.fromarray(PIXELS).save("b.png")
    return tmp_path


def names_of(source):
    return [item.name for item in image_inputs(source, background=WHITE)]


def test_folders_are_searched_for_images_and_videos(folder, caplog):
    Path("sub/clip.mp4").touch()
    found = find_files(folder)
    assert [str(path.relative_to(folder)) for path in found] == [
        *("a.JPG", "b.png", "sub/c.tif", "sub/clip.mp4", "sub/deep/d.png")
    ]
    assert caplog.messages == [f"Ignored 1 file that is neither an image nor a video by its suffix: {folder}/notes.txt"]
    caplog.clear()
    for suffix in (".h5", ".hdf", ".grib", ".bufr", ".wmf"):  # Pillow cannot decode these formats
        Path("a").with_suffix(suffix).touch()
    assert find_files(folder) == found
    assert caplog.messages == [
        f"Ignored 6 files in {folder} that are neither images nor videos by their suffix, such as {folder}/a.bufr"
    ]
    caplog.clear()
    assert find_files("sub") == [Path("sub/c.tif"), Path("sub/clip.mp4"), Path("sub/deep/d.png")]
    assert not caplog.messages


def test_skipped_files_of_a_folder_with_a_percent_sign_are_named(folder, caplog):
    Path("50% test").mkdir()
    for name in ("a.png", "b.txt", "c.txt"):
        Path("50% test", name).touch()
    assert find_files("50% test") == [Path("50% test/a.png")]
    (message,) = caplog.messages
    assert message.startswith("Ignored 2 files in 50% test that ") and message.endswith("such as 50% test/b.txt")


def test_links_cannot_form_a_cycle(folder):
    os.symlink(folder, "sub/loop")
    os.symlink(folder / "b.png", "sub/link.png")
    assert [str(path) for path in find_files(".")] == ["a.JPG", "b.png", "sub/c.tif", "sub/deep/d.png", "sub/link.png"]
    assert [str(path) for path in find_files("**/*.png")] == ["b.png", "sub/deep/d.png", "sub/link.png"]


def test_glob_patterns(folder):
    assert names_of("*.png") == ["b.png"]
    assert names_of("sub/**/*.png") == ["sub/deep/d.png"]
    assert names_of(f"{folder}/[ab].*") == [f"{folder}/a.JPG", f"{folder}/b.png"]
    assert names_of("*") == ["a.JPG", "b.png", "notes.txt"]  # a pattern chooses the files, whatever their suffix
    Path("b.png").rename("[b].png")
    assert names_of("[b].png") == ["[b].png"] and is_single("[b].png")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("none.png", r"no such file or folder; check the path\. Received: input='none\.png'$"),
        ("*.gif", r"no file matches this pattern"),
        ("empty", r"the folder and its subfolders contain no file with a suffix such as"),
    ],
)
def test_inputs_without_images_fail_when_they_are_loaded(folder, source, problem):
    Path("empty").mkdir()
    good, bad = image_inputs(["b.png", source], background=WHITE)
    assert (good.name, bad.name) == ("b.png", source)
    with pytest.raises(MissingDataError, match=problem):
        bad.load()


def test_inputs_keep_their_order_and_are_read_late(folder):
    sources = [PIXELS, "sub", Path("b.png"), Image.fromarray(PIXELS), (torch.zeros(3, 4, 5), [PIXELS[..., 0]])]
    inputs = list(image_inputs(sources, background=WHITE))
    assert [item.name for item in inputs] == ["0", "sub/c.tif", "sub/deep/d.png", "b.png", "3", "4", "5"]
    for item, error in zip(
        inputs, [None, *[UnreadableFileError] * 2, None, None, InvalidSampleError, None], strict=True
    ):
        if error is None:
            assert item.load().shape == PIXELS.shape
        else:
            with pytest.raises(error):
                item.load()


def test_videos_are_read_frame_by_frame(tmp_path):
    path = write_video(tmp_path / "clip.mp4")
    inputs = image_inputs([path, PIXELS], background=WHITE)
    assert next(inputs).name == f"{path}#0"
    path.unlink()
    assert [item.name for item in inputs] == [*(f"{path}#{number}" for number in range(1, len(COLORS))), "1"]


def test_damaged_videos_are_one_failing_input(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"text")
    bad, good = image_inputs([path, PIXELS], background=WHITE)
    assert (bad.name, good.name) == (str(path), "1")
    with pytest.raises(UnreadableFileError):
        bad.load()


@pytest.mark.parametrize("source", [3, None, b"image.png", {"image": PIXELS}])
def test_other_types_are_refused(source):
    refused = pytest.raises(TypeError, match=r"^an input must be an array.* Received: (int|NoneType|bytes|dict)$")
    with refused:
        image_inputs(source, background=WHITE)
    inputs = image_inputs([PIXELS, source], background=WHITE)
    assert next(inputs).name == "0"
    with refused:
        next(inputs)


def test_what_is_one_image(folder):
    write_video(Path("clip.mp4"))
    single = [PIXELS, torch.zeros(3, 4, 5), Image.fromarray(PIXELS), "b.png", Path("notes.txt"), "missing.png"]
    several = ["sub", "*.png", "clip.mp4", [PIXELS], iter([PIXELS])]
    assert all(map(is_single, single)) and not any(map(is_single, several))
