"""Replacement of folders: the old or the new one, complete."""

import contextlib
import os

import pytest

from dl_lib.utils import folder_replacement
from dl_lib.utils.folder_replacement import finish_replacement, partial_folder, replace_folder


class Killed(BaseException):
    """End of the process."""


@pytest.mark.parametrize("has_old", [True, False])
@pytest.mark.parametrize("renames", [0, 1, 2])
def test_folder_is_replaced_as_a_whole_or_not_at_all(tmp_path, renames, has_old, monkeypatch):
    """A process is killed after a number of renames; the next one finishes the replacement."""
    folder = tmp_path / "results"
    new = partial_folder(folder)
    for content, path in (("old", folder), ("new", new))[not has_old :]:
        path.mkdir()
        (path / content).touch()
    rename, left = os.rename, iter(range(renames))
    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(
            folder_replacement.os,
            "rename",
            lambda *paths: raise_killed() if next(left, None) is None else rename(*paths),
        )
        patch.setattr(folder_replacement, "finish_replacement", lambda _: raise_killed())
        replace_folder(folder)
    finish_replacement(folder)
    is_replaced = renames >= (2 if has_old else 1)
    contents = {path.parent.name: path.name for path in tmp_path.rglob("*") if path.is_file()}
    expected = {"results": "new"} if is_replaced else {new.name: "new", **({"results": "old"} if has_old else {})}
    assert contents == expected


def test_failed_replacement_restores_the_folder(tmp_path):
    folder = tmp_path / "results"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(FileNotFoundError):
        replace_folder(folder)  # there is no new one
    assert [path.name for path in folder.iterdir()] == ["old"]


def raise_killed():
    raise Killed
