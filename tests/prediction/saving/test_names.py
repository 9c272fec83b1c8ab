"""Names of inputs in an output folder."""

import os

import pytest

from dl_lib.data.errors import InvalidSampleError
from dl_lib.prediction.saving.names import common_folder, output_name


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("x/images/a.png", "x/images/sub/b.png", "y/images/a.png", "x/images/a[1].png"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


@pytest.mark.parametrize(
    ("inputs", "folder"),
    [
        (["x/images"], "x/images"),
        (["x/images/a.png"], "x/images"),
        (["x/images/a[1].png"], "x/images"),
        (["x/images", "y/images"], "."),
        (["x/images/sub/b.png", "x/images/a.png"], "x/images"),
        (["x/**/a.*"], "x"),
        (["x/image[s]/*.png", "x/images/sub"], "x"),
        (["y/../x/images"], "x/images"),
    ],
)
def test_outputs_mirror_paths_below_the_common_folder_of_the_inputs(photos, inputs, folder):
    assert common_folder(inputs) == (photos / folder).resolve()


def test_names_keep_the_suffix_and_the_folders_of_different_inputs(photos):
    root = common_folder(["x/images", "y/images"])
    paths = ["x/images/a.png", "y/images/a.png", "x/images/a.jpg", photos / "x/images/sub/b.png"]
    names = [output_name(path, relative_to=root) for path in paths]
    assert names == ["x/images/a.png", "y/images/a.png", "x/images/a.jpg", "x/images/sub/b.png"]


@pytest.mark.parametrize(
    "path", ["../a.png", ".hidden/a.png", "sub/..a.png", "a\n.png", "a\\b.png", os.fsdecode(b"a\xdf.png"), "a" * 250]
)
def test_names_that_could_leave_the_folder_are_refused(tmp_path, path):
    with pytest.raises(InvalidSampleError, match=r"becomes the name of the output.*Received: name="):
        output_name(tmp_path / path, relative_to=tmp_path)
