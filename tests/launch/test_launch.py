"""Runs of two real CPU processes in which one process fails."""

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from dl_lib.config import ConfigError
from dl_lib.launch import LaunchError, LostProcessError, ProcessRequest, spawning
from dl_lib.launch.launch import launch
from dl_lib.launch.process_group import initialized_process_group, warn_without_gpu
from dl_lib.launch.process_info import ProcessInfo
from dl_lib.launch.signals import SignalForwarder
from dl_lib.utils import comm
from tests.launch.worker import work

ROOT = Path(__file__).parents[2]
WORKER = str(Path(__file__).with_name("worker.py"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def is_alive(process_id):
    """Return whether the process runs; a zombie does not."""
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def pids(printed):
    return [int(line.split()[1]) for line in printed.splitlines() if line.startswith("pid ")]


def launch_two(how, **settings):
    launch(work, ProcessRequest(2), device="cpu", args=(how,), **settings)


def test_unpicklable_error_of_a_process_is_raised_as_its_nearest_picklable_base():
    with pytest.raises(Exception, match="KEY is 3") as caught:
        launch_two("raise")
    assert type(caught.value) is ConfigError
    assert isinstance(caught.value.__cause__, ProcessRaisedException)  # carries the traceback of a process


def test_killed_process_terminates_the_others(capfd):
    with pytest.raises(LostProcessError, match=r"local rank 1 exited.*memory runs out.*Received: SIGKILL"):
        launch_two("die")
    (survivor,) = pids(capfd.readouterr().out)
    assert not is_alive(survivor)


@pytest.mark.parametrize(
    ("status", "name", "message"),
    [
        (-signal.SIGABRT, "SIGABRT", "With NCCL, torch sends it .* Received: SIGABRT, pid 7"),
        (3, None, r"terminated\. Received: exit status 3, pid 7"),
    ],
)
def test_error_names_the_likely_sender_of_a_signal(status, name, message):
    exited = ProcessExitedException("", error_index=1, error_pid=8, exit_code=status, signal_name=name)
    with pytest.raises(LostProcessError, match=message):
        spawning._raise_exited(exited, process_id=7, forwarder=SignalForwarder())


def test_unresponsive_process_is_detected_after_the_timeout_and_killed(capfd, monkeypatch):
    monkeypatch.setattr(spawning, "_GRACE_SECONDS", 0.2)
    with pytest.raises(LostProcessError, match=r"process 0 of 2 .* or has not responded for 4 s .*Received: .*gloo"):
        launch_two("hang", timeout_seconds=4)
    both = pids(capfd.readouterr().out)
    assert len(both) == 2
    assert not any(is_alive(process_id) for process_id in both)


def test_signal_to_the_command_is_forwarded_to_its_processes(capfd):
    assert threading.current_thread() is threading.main_thread()  # else the signal would end the test session
    with pytest.raises(SystemExit) as caught:
        launch_two("signal the parent")
    assert caught.value.code == 128 + signal.SIGTERM
    (first,) = pids(capfd.readouterr().out)
    assert not is_alive(first)


def test_torchrun_prints_an_error_once_and_leaves_no_process():
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", WORKER]
    finished = subprocess.run([sys.executable, *command], env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert finished.returncode == 1  # torchrun's own status, independent of the worker's
    assert finished.stderr.count("worker: error: KEY is 3") == 1
    assert "in work\n" in finished.stderr  # torchrun's summary holds the traceback
    (survivor,) = pids(finished.stdout)
    assert not is_alive(survivor)


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("127.0.0.1", r"cannot listen on the port .* \(address already in use\)"),
        ("host.invalid", r"cannot be resolved \(.*\)"),
    ],
)
def test_unusable_init_method_is_named(host, message):
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"tcp://{host}:{server.getsockname()[1]}"
        info = ProcessInfo("spawn", rank=0, world_size=2, local_rank=0, init_method=url)
        with (
            pytest.raises(LaunchError, match=rf"{message}.*Received: init_method={url}$"),
            initialized_process_group(info, device="cpu", timeout_seconds=1),
        ):
            pass


@pytest.mark.parametrize("host", ["192.0.2.1", "host.invalid"])  # reserved for documentation
def test_processes_of_one_machine_need_a_local_init_method(host):
    with pytest.raises(
        LaunchError, match=rf"^dist_url must name this machine.*Received: dist_url='tcp://{host}:29500'$"
    ):
        launch(work, ProcessRequest(2, dist_url=f"tcp://{host}:29500"), device="cpu", args=("raise",))


@pytest.mark.parametrize(("device", "processes", "warns"), [("auto", 4, True), ("cpu", 4, False), ("auto", 1, False)])
def test_processes_without_a_gpu_are_a_warning(monkeypatch, caplog, device, processes, warns):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(comm, "get_world_size", lambda: processes)
    warn_without_gpu(device)
    assert ("No GPU available; 4 processes share the CPU cores" in caplog.text) is warns


def test_single_process_runs_in_the_calling_process():
    process_ids = []
    launch(process_ids.append, args=(os.getpid(),))
    assert process_ids == [os.getpid()]
