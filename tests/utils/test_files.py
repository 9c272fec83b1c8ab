"""Atomic writes: the file is the old or the new one, and no partial file remains."""

import errno
import os
import pickle
import resource

import pytest

from dl_lib.utils.files import WriteError, open_atomically, write_atomically, write_errors


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


@pytest.fixture
def limited_file_size():
    """Limit the size of files to 64 KiB, which fails as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_named_with_the_file_and_keeps_the_old_one(tmp_path, limited_file_size):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(WriteError, match=r"^cannot write a\.txt: .*, [\d.]+ MB free; .* Received: path='.*a\.txt'$"):
        write_atomically(path, bytes(2**17))
    with pytest.raises(WriteError, match=r"cannot write b\.txt: .* MB free"), write_errors(tmp_path / "b.txt"):
        (tmp_path / "b.txt").write_bytes(bytes(2**17))
    (tmp_path / "b.txt").unlink()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_write_errors_of_folders_are_named_and_those_of_other_files_are_not(tmp_path):
    (tmp_path / "file").touch()
    for folder, code in ((tmp_path / "file", errno.EEXIST), ("/proc/nope", errno.ENOENT)):
        with pytest.raises(WriteError, match="cannot write a: ") as caught:
            write_atomically(f"{folder}/a", "")
        assert caught.value.errno == code
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
    with pytest.raises(WriteError, match="cannot write events: "), write_errors(tmp_path / "events"):
        os.open(os.fsencode(tmp_path / "events.1/x"), os.O_RDONLY)  # a longer name, and as bytes
    with pytest.raises(FileNotFoundError), write_errors(tmp_path / "a"):
        (tmp_path / "another").read_bytes()
