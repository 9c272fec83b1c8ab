"""A launcher that ends before its process does: `python -m tests.launch.orphan spawn|start early|late FILE`.

FILE gets what the process hears of that: a signal if it has asked to hear of it early, else an error when it asks.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from dl_lib.launch import LostProcessError, exit_with_parent


def live(when, path):
    launcher = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in a background job of a shell's script
    signal.signal(signal.SIGTERM, lambda number, frame: tell("TERM", path))
    if when == "early":
        exit_with_parent()
    Path(f"{path}.started").touch()
    while os.getppid() == launcher:
        time.sleep(0.01)
    try:
        exit_with_parent()
    except LostProcessError as error:
        tell(str(error), path)


def tell(text, path):
    Path(f"{path}.new").write_text(text)
    Path(f"{path}.new").rename(path)
    os._exit(0)


def start_and_end(how, when, path):
    if how == "spawn":
        multiprocessing.get_context("spawn").Process(target=live, args=(when, path)).start()
    else:
        subprocess.Popen([sys.executable, "-m", "tests.launch.orphan", "live", when, path])
    while not Path(f"{path}.started").exists():
        time.sleep(0.01)
    os._exit(0)


if __name__ == "__main__":
    how, when, path = sys.argv[1:]
    if how == "live":
        live(when, path)
    else:
        start_and_end(how, when, path)
