"""Process whose launcher exits first: `python -m tests.launch.orphan spawn|popen early|late FILE`.

FILE receives the notification: the signal if the process called `exit_with_parent` early, before the launcher exited;
else the error that a late call raises.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from dl_lib.launch import LostProcessError, exit_with_parent


def run_child(when, path):
    launcher = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a background job of a shell script
    signal.signal(signal.SIGTERM, lambda number, frame: report("TERM", path))
    if when == "early":
        exit_with_parent()
    Path(f"{path}.started").touch()
    while os.getppid() == launcher:
        time.sleep(0.01)
    try:
        exit_with_parent()
    except LostProcessError as error:
        report(str(error), path)


def report(text, path):
    Path(f"{path}.new").write_text(text)
    Path(f"{path}.new").rename(path)
    os._exit(0)


def start_child_and_exit(how, when, path):
    if how == "spawn":
        multiprocessing.get_context("spawn").Process(target=run_child, args=(when, path)).start()
    else:
        subprocess.Popen([sys.executable, "-m", "tests.launch.orphan", "child", when, path])
    while not Path(f"{path}.started").exists():
        time.sleep(0.01)
    os._exit(0)


if __name__ == "__main__":
    how, when, path = sys.argv[1:]
    if how == "child":
        run_child(when, path)
    else:
        start_child_and_exit(how, when, path)
