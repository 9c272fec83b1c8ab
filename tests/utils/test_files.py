"""Atomic writes: the file is the old or the new one, and no partial file remains."""

import errno
import os
import pickle
import shutil
from types import SimpleNamespace as Usage

import pytest

from dl_lib.utils.files import WriteError, failure_reason, open_atomically, write_atomically, write_errors
from tests.helpers.full_disk import limited_file_size


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


def test_a_full_disk_is_named_with_the_file_and_keeps_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    message = r"^cannot write a\.txt: .*, [\d.]+ MB free; .* Received: path='.*a\.txt'$"
    with limited_file_size(2**16), pytest.raises(WriteError, match=message):
        write_atomically(path, bytes(2**17))
    message = r"cannot write b\.txt: .* MB free"
    with limited_file_size(2**16), pytest.raises(WriteError, match=message), write_errors(tmp_path / "b.txt"):
        (tmp_path / "b.txt").write_bytes(bytes(2**17))
    (tmp_path / "b.txt").unlink()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_free_space_is_that_of_the_disk_of_the_path(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: asked.append(path) or Usage(free=3e6))
    (tmp_path / "a.txt").touch()
    full = OSError(errno.ENOSPC, "full")
    reasons = {failure_reason(full, tmp_path / name) for name in ("", "a.txt", "absent/b.txt")}
    assert reasons == {"full, 3.0 MB free"} and asked == [tmp_path] * 3


def test_write_errors_of_folders_are_named_and_those_of_other_files_are_not(tmp_path):
    (tmp_path / "file").touch()
    taken = "a file or a broken link has this name"
    for folder, code, reason in ((tmp_path / "file", errno.EEXIST, taken), ("/proc/nope", errno.ENOENT, "No such")):
        with pytest.raises(WriteError, match=f"cannot write a: {reason}") as caught:
            write_atomically(f"{folder}/a", "")
        assert caught.value.errno == code
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    with pytest.raises(WriteError, match="cannot write events: "), write_errors(tmp_path / "events"):
        os.open(os.fsencode(tmp_path / "events.1/x"), os.O_RDONLY)  # a longer name, and as bytes
    with pytest.raises(FileNotFoundError), write_errors(tmp_path / "a"):
        (tmp_path / "another").read_bytes()
