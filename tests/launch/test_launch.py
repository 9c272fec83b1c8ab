"""Real processes, two of them on the CPU: what comes of the other when one of them ends."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException

from dl_lib.config import ConfigError
from dl_lib.launch import LostProcessError, ProcessRequest, spawning
from dl_lib.launch.launch import launch
from dl_lib.launch.relay import SignalRelay
from tests.launch.worker import work

ROOT = Path(__file__).parents[2]
WORKER = str(Path(__file__).with_name("worker.py"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def is_alive(process_id):
    """Whether it runs; one that has ended and that nobody has asked for yet does not."""
    try:
        status = Path(f"/proc/{process_id}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def pids(printed):
    return [int(line.split()[1]) for line in printed.splitlines() if line.startswith("pid ")]


def launch_two(how, **settings):
    launch(work, ProcessRequest(2), device="cpu", args=(how,), **settings)


def test_an_error_of_another_process_is_raised_here_as_the_nearest_that_can_travel():
    with pytest.raises(Exception, match="KEY is 3") as caught:
        launch_two("raise")
    assert type(caught.value) is ConfigError
    assert isinstance(caught.value.__cause__, ProcessRaisedException)  # with the traceback of one of the processes


def test_the_others_end_when_one_is_killed(capfd):
    with pytest.raises(LostProcessError, match=r"process 1 of this .*memory runs out.*Received: SIGKILL"):
        launch_two("die")
    (survivor,) = pids(capfd.readouterr().out)
    assert not is_alive(survivor)


@pytest.mark.parametrize(
    ("status", "name", "message"),
    [
        (-signal.SIGABRT, "SIGABRT", "with it. With NCCL, torch does that .* Received: SIGABRT, pid 7"),
        (3, None, r"with it\. Received: exit status 3, pid 7"),
    ],
)
def test_what_ends_processes_is_told_apart(status, name, message):
    ended = ProcessExitedException("", error_index=1, error_pid=8, exit_code=status, signal_name=name)
    with pytest.raises(LostProcessError, match=message):
        spawning._raise_ended(ended, process_id=7, relay=SignalRelay())


def test_one_that_hangs_is_noticed_in_time_and_ended(capfd, monkeypatch):
    monkeypatch.setattr(spawning, "_ENDING_SECONDS", 0.2)
    with pytest.raises(LostProcessError, match=r"process 0 of 2 .* or has not answered for 4 s .*Received: .*gloo"):
        launch_two("hang", timeout_seconds=4)
    both = pids(capfd.readouterr().out)
    assert len(both) == 2
    assert not any(is_alive(process_id) for process_id in both)


def test_a_signal_to_the_command_is_passed_on_to_its_processes(capfd):
    assert threading.current_thread() is threading.main_thread()  # else the signal would end the tests
    with pytest.raises(SystemExit) as caught:
        launch_two("signal the parent")
    assert caught.value.code == 128 + signal.SIGTERM
    (first,) = pids(capfd.readouterr().out)
    assert not is_alive(first)


def test_under_torchrun_errors_are_told_once_and_nobody_is_left():
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", WORKER]
    ended = subprocess.run([sys.executable, *command], env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 1  # torchrun's own, whatever that of the worker was
    assert ended.stderr.count("worker: error: KEY is 3") == 1
    assert "in work\n" in ended.stderr  # in torchrun's summary, which has the traceback
    (survivor,) = pids(ended.stdout)
    assert not is_alive(survivor)


def test_one_process_runs_here_and_now():
    here = []
    launch(here.append, args=(os.getpid(),))
    assert here == [os.getpid()]
