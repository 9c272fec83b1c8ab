"""Atomic writes: the file is the old or the new one, and no partial file remains."""

import os

import pytest

from dl_lib.utils.files import open_atomically, write_atomically


def test_text_and_bytes_are_written_and_folders_created(tmp_path):
    path = tmp_path / "new" / "a.txt"
    write_atomically(path, "grün")
    assert path.read_bytes() == "grün".encode()
    write_atomically(str(path), b"\x00")
    assert path.read_bytes() == b"\x00"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
def test_failed_write_keeps_the_old_file(tmp_path, failure):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(failure), open_atomically(path) as file:
        file.write(b"half")
        raise failure
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_file_appears_with_its_complete_content(tmp_path):
    with open_atomically(tmp_path / "a.txt") as file:
        file.write(b"half")
        file.flush()
        assert not (tmp_path / "a.txt").exists()
    assert (tmp_path / "a.txt").read_text() == "half"
