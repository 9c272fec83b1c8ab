"""Temporary folders of runs: used by the child processes, removed after `kill -9` only when no process uses them."""

import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from multiprocessing import process, util

import pytest

from dl_lib.launch import LaunchError, ProcessRequest, spawning
from dl_lib.launch.launch import launch
from dl_lib.launch.temp_folder import use_temp_folder

# Python 3.12 and later warn because of torch's threads, which the child processes do not use.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture(autouse=True)
def _temporary(tmp_path, monkeypatch):
    """An empty `$TMPDIR`, and a process that has no temporary folder yet."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    config = process.current_process()._config
    monkeypatch.setattr(process.current_process(), "_config", {**config, "tempdir": None})


def start_run():
    """Start a process that uses a temporary folder and waits, and a worker forked from it; return their ids."""
    ready, told = os.pipe()
    run = os.fork()
    if run == 0:
        use_temp_folder()
        worker = os.fork()
        if worker:
            os.write(told, f"{worker}\n".encode())
        signal.pause()
    return run, int(os.read(ready, 20))


def kill(process_id):
    os.kill(process_id, signal.SIGKILL)


def test_the_folder_of_a_killed_run_is_removed_once_no_process_uses_it(tmp_path):
    run, worker = start_run()
    (left,) = tmp_path.iterdir()
    kill(run)
    os.waitpid(run, 0)
    (left / "listener").touch()
    try:
        assert use_temp_folder() != left
        assert left.is_dir()  # the worker, an orphan now, still uses it
    finally:
        kill(worker)
    deadline = time.monotonic() + 10
    while left.exists() and time.monotonic() < deadline:
        process.current_process()._config["tempdir"] = None
        current = use_temp_folder()
    assert not left.exists()
    assert current.is_dir()


def test_the_folder_of_a_run_that_exits_is_removed(tmp_path):
    run = os.fork()
    if run == 0:
        use_temp_folder()
        util._run_finalizers()
        os._exit(0)
    os.waitpid(run, 0)
    assert list(tmp_path.iterdir()) == []


def test_only_folders_of_runs_are_removed(tmp_path):
    (tmp_path / "other" / "content").mkdir(parents=True)
    (tmp_path / "dl_lib-run-link").symlink_to(tmp_path / "other")
    (tmp_path / "dl_lib-run-file").touch()
    (tmp_path / "dl_lib-run-left" / "content").mkdir(parents=True)
    own = use_temp_folder()
    assert use_temp_folder() == own
    names = {"other", "dl_lib-run-link", "dl_lib-run-file", own.name}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert (tmp_path / "other" / "content").is_dir()


def test_unusable_folder_for_temporary_files_is_named(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nope")
    with pytest.raises(LaunchError, match=r"No such file or directory.*set TMPDIR.*Received: TMPDIR="):
        use_temp_folder()


def test_error_files_of_torch_are_in_the_folder(tmp_path, monkeypatch):
    used = []

    def spawn(*args, **settings):
        used.append(tempfile.gettempdir())
        raise OSError("no process")

    monkeypatch.setattr(spawning, "spawn", spawn)
    with pytest.raises(OSError, match="no process"):
        launch(print, ProcessRequest(2), device="cpu")
    assert used == [str(use_temp_folder())]
    assert tempfile.gettempdir() == str(tmp_path)


def write_temp_folder(queue):
    queue.put(util.get_temp_dir())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_child_processes_use_the_folder(method):
    own = use_temp_folder()
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=write_temp_folder, args=(queue,))
    child.start()
    assert queue.get(timeout=60) == str(own)
    child.join()
    shutil.rmtree(own)
