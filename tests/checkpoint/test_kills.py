"""Fault tolerance of saving: `kill -9` at random times, and before and after each file system operation."""

import builtins
import os
import random
import signal
import struct
import time

import pytest

from dl_lib.checkpoint import Checkpointer
from dl_lib.checkpoint.earlier_run import archive_earlier_run
from dl_lib.utils.run_files import numbered_checkpoint
from tests.helpers.checkpoints import newest_iteration, save_run, small_model, warnings_in

# Python 3.12 and later warn because of torch's threads, which the child processes do not use.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")

OPERATIONS = ("fsync", "replace", "rename", "remove", "makedirs")  # of os; open() for writing is added


def save_in_a_loop(folder, start, *, report):
    """Save at every iteration, keep two checkpoints, and extend the run beyond its final checkpoint repeatedly."""
    for iteration in range(start, start + 10_000):
        checkpointer = Checkpointer(small_model(seed=iteration), folder)
        name = "model_final" if iteration % 7 == 0 else numbered_checkpoint(iteration)
        checkpointer.save(name, iteration=iteration)
        os.write(report, struct.pack("q", iteration))
        checkpointer.prune(iteration=iteration, keep_last=2, keep_every=0)


def test_run_killed_at_random_times_resumes_from_its_last_completed_save(tmp_path):
    times = random.Random(4)
    start = 1
    for _ in range(20):
        reader, report = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                save_in_a_loop(tmp_path, start, report=report)
            finally:
                os._exit(1)
        os.close(report)
        with os.fdopen(reader, "rb") as reports:
            first = reports.read(8)  # the first save is complete
            time.sleep(times.uniform(0, 0.1))
            os.kill(pid, signal.SIGKILL)
            received = first + reports.read()
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
        (finished,) = struct.unpack("q", received[-8:])
        assert finished <= newest_iteration(tmp_path) <= finished + 1
        start = newest_iteration(tmp_path) + 1
    save_run(tmp_path, start)
    Checkpointer(small_model(), tmp_path).prune(iteration=start, keep_last=2, keep_every=0)
    names = {path.name for path in tmp_path.iterdir()}
    assert not any(name.endswith(".partial") for name in names)
    assert {name for name in names if name.endswith(".sha256")} <= {f"{name}.sha256" for name in names}


class KillAt:
    """Context that kills this process before or after its n-th file system operation, counted from 0."""

    def __init__(self, number, *, after):
        self.remaining, self.after = number, after

    def wrap(self, function):
        def wrapped(*args, **kwargs):
            self.remaining -= 1
            try:
                if self.remaining == -1 and not self.after:
                    os.kill(os.getpid(), signal.SIGKILL)
                return function(*args, **kwargs)
            finally:
                if self.remaining == -1:
                    os.kill(os.getpid(), signal.SIGKILL)

        return wrapped

    def install(self):
        for name in OPERATIONS:
            setattr(os, name, self.wrap(getattr(os, name)))
        plain, wrapped = builtins.open, self.wrap(builtins.open)
        builtins.open = lambda path, mode="r", *args, **kwargs: (wrapped if "w" in mode else plain)(
            path, mode, *args, **kwargs
        )


def is_killed(do, *, at, after):
    """Return whether a forked process is killed at this operation, rather than completing before it."""
    pid = os.fork()
    if pid == 0:
        try:
            KillAt(at, after=after).install()
            do()
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("case", ["deletes the oldest", "over an old one"])
def test_save_killed_at_any_operation_leaves_the_old_or_the_new_state(tmp_path, caplog, case, after):
    name = "model_final" if case == "over an old one" else "model_0000030"

    def prepare(folder):
        save_run(folder, 10, 20)
        old = Checkpointer(small_model(seed=25), folder)
        if case == "over an old one":
            old.save("model_final", iteration=25)

    def save(folder):
        checkpointer = Checkpointer(small_model(seed=30), folder)
        checkpointer.save(name, iteration=30)
        checkpointer.prune(iteration=30, keep_last=2 if case == "deletes the oldest" else 0, keep_every=0)

    old = 25 if case == "over an old one" else 20
    found = []
    while True:
        folder = tmp_path / str(len(found))
        prepare(folder)
        if not is_killed(lambda folder=folder: save(folder), at=len(found), after=after):
            break
        found.append(newest_iteration(folder))
        (folder / "last_checkpoint").unlink()
        by_name = newest_iteration(folder)
        assert by_name == found[-1] or (found[-1] == old and by_name == 30)  # complete, but not yet in last_checkpoint
        save(folder)
        assert newest_iteration(folder) == 30
        assert not list(folder.glob("*.partial"))
        assert all((folder / path.name.removesuffix(".sha256")).exists() for path in folder.glob("*.sha256"))
    assert found == sorted(found) and set(found) == {old, 30}  # the old one up to some operation, then the new one
    assert len(found) >= 8
    assert len(warnings_in(caplog)) == len(found)  # last_checkpoint was removed above; nothing is damaged


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_archiving_killed_at_any_operation_leaves_the_whole_earlier_run_or_none(tmp_path, after):
    resumable = []
    while True:
        folder = tmp_path / str(len(resumable))
        save_run(folder, 10, 20)
        for name in ("metrics.json", "log.txt", "results.json", "config.yaml"):
            (folder / name).write_text(name)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        if not is_killed(lambda folder=folder: archive_earlier_run(folder), at=len(resumable), after=after):
            break
        resumable.append(Checkpointer(small_model(), folder).has_checkpoint())
        if resumable[-1]:
            assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        archive_earlier_run(folder)  # completes it, or finds nothing left to do
        assert [path.name for path in folder.iterdir() if path.name != "config.yaml"] == ["earlier_run_1"]
        assert {path.name: path.read_bytes() for path in (folder / "earlier_run_1").iterdir()} == before
    assert len(resumable) >= 12
    assert resumable == sorted(resumable, reverse=True)
    assert resumable[0] or after
