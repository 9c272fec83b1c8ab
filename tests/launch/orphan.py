"""A launcher that ends before the process that it has started has looked: `python -m tests.launch.orphan HOW FILE`."""

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

from dl_lib.launch import LostProcessError, check_parent


def look_too_late(path):
    """Writes down what it finds when its launcher is there, and when it is not."""
    check_parent()
    launcher = os.getppid()
    Path(f"{path}.started").touch()
    while os.getppid() == launcher:
        time.sleep(0.01)
    try:
        check_parent()
    except LostProcessError as error:
        Path(f"{path}.new").write_text(str(error))
        Path(f"{path}.new").rename(path)


def start_and_end(how, path):
    if how == "spawn":
        multiprocessing.get_context("spawn").Process(target=look_too_late, args=(path,)).start()
    else:
        subprocess.Popen([sys.executable, "-m", "tests.launch.orphan", "look", path])
    while not Path(f"{path}.started").exists():
        time.sleep(0.01)
    os._exit(0)


if __name__ == "__main__":
    how, path = sys.argv[1:]
    if how == "look":
        look_too_late(path)
    else:
        start_and_end(how, path)
