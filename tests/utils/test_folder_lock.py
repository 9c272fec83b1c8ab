"""Exclusive lock of an output folder, and output folders that cannot be used."""

import errno
import fcntl
import os
import signal
import socket
import time

import pytest

from dl_lib.cli import train
from dl_lib.utils import comm
from dl_lib.utils.folder_lock import check_present, locked_folder
from dl_lib.utils.output_path import OutputPathError

# Python 3.12 and later warn because of torch's threads, which the child processes do not use.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


def assert_can_lock(folder):
    with locked_folder(folder):
        pass


def test_a_second_process_is_refused_with_host_and_pid_of_the_first(tmp_path):
    holder = rf"OUTPUT_DIR='.*', used by host {socket.gethostname()}, pid {os.getpid()}$"
    with locked_folder(tmp_path / "run"):
        with pytest.raises(OutputPathError, match=holder), locked_folder(tmp_path / "run"):
            pass
        with pytest.raises(OutputPathError, match=holder), locked_folder(tmp_path / "run"):
            pass  # the refused process has not released the lock
    assert_can_lock(tmp_path / "run")
    assert (tmp_path / "run" / ".folder.lock").read_text() == ""


def test_training_is_refused_before_anything_in_the_folder_changes(tmp_path, capsys):
    with locked_folder(tmp_path):
        before = os.listdir(tmp_path)
        with pytest.raises(SystemExit) as caught:
            train.main(["--config-file", "Quickstart", "MODEL.DEVICE=cpu", f"OUTPUT_DIR={tmp_path}"])
    assert caught.value.code == 2
    assert "another process is writing to this folder" in capsys.readouterr().err
    assert os.listdir(tmp_path) == before == [".folder.lock"]


@pytest.mark.parametrize("end", [signal.SIGKILL, None], ids=["killed", "released"])
def test_an_orphan_of_the_holder_does_not_keep_the_lock(tmp_path, end):
    """An orphaned data loader worker, forked while the lock was held, must not block --resume."""
    ready, told = os.pipe()
    holder = os.fork()
    if holder == 0:
        with locked_folder(tmp_path):
            worker = os.fork()
            if worker == 0:
                time.sleep(60)
            os.write(told, f"{worker}\n".encode())
            if end is not None:
                os.kill(os.getpid(), end)
        os._exit(0)
    os.waitpid(holder, 0)
    worker = int(os.read(ready, 20))
    try:
        os.kill(worker, 0)  # alive
        assert_can_lock(tmp_path)
    finally:
        os.kill(worker, signal.SIGKILL)


def test_a_forked_process_does_not_release_the_lock(tmp_path):
    with locked_folder(tmp_path):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        with pytest.raises(OutputPathError, match="another process"), locked_folder(tmp_path):
            pass


def test_a_folder_moved_away_by_the_former_holder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "flock", lambda *_: (tmp_path / "run").rename(tmp_path / "moved"))
    message = r"another process.* \(delete its \.folder\.lock only if that machine"
    with pytest.raises(OutputPathError, match=message), locked_folder(tmp_path / "run"):
        pass


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_a_warning(tmp_path, monkeypatch, caplog, code):
    def refuse(descriptor, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with locked_folder(tmp_path), locked_folder(tmp_path):
        pass
    assert "cannot be locked" in caplog.text


def test_only_the_main_process_locks_and_every_process_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    with locked_folder(tmp_path / "run"):
        assert not (tmp_path / "run").exists()
    monkeypatch.setattr(comm, "broadcast", lambda problem: "OUTPUT_DIR: locked by another run")
    with pytest.raises(OutputPathError, match="locked by another run"), locked_folder(tmp_path / "run"):
        pass


def test_a_deleted_or_moved_folder_is_noticed(tmp_path):
    folder = tmp_path / "run"
    with locked_folder(folder):
        check_present(folder)
        folder.rename(tmp_path / "moved")
        folder.mkdir()  # as the next file that is written does
        with pytest.raises(OutputPathError, match=r"^OUTPUT_DIR: .* was deleted or moved .*Received: OUTPUT_DIR="):
            check_present(folder)


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("file", "a file or a broken link has this name"),
        ("file/run", "Not a directory"),
        ("/proc/nope/run", "No such file or directory"),
        ("/dev/null", "a file or a broken link has this name"),
        ("x" * 300, "File name too long"),
        ("null\0", "null byte"),
        ("s3://bucket/run", "without a scheme"),
    ],
)
def test_unusable_folder(tmp_path, monkeypatch, folder, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OutputPathError, match=f"^OUTPUT_DIR.*{reason}.*Received: OUTPUT_DIR="), locked_folder(folder):
        pass
    assert os.listdir(tmp_path) == ["file"]
