"""What tests of launching run in the processes; a command by itself, so that torchrun can start it, too."""

import os
import signal
import time

from dl_lib.cli.errors import user_errors
from dl_lib.config import ConfigError
from dl_lib.launch.launch import launch
from dl_lib.utils import comm

ENDS = {"die": signal.SIGKILL, "hang": signal.SIGSTOP}  # a process that is stopped is there, and hears nothing


class Unusual(ConfigError):
    """An error that no text alone can make."""

    def __init__(self, key, *, value):
        super().__init__(f"{key} is {value}")


def work(how):
    """Something together; then the second process ends, and the first waits for it in vain."""
    if comm.get_rank() == 0 or how == "hang":
        print(f"pid {os.getpid()}\n", end="", flush=True)  # at once, as both may print
    comm.synchronize()
    if comm.get_rank() == 0:
        comm.synchronize()
    elif how == "raise":
        raise Unusual("KEY", value=3)
    elif how in ENDS:
        os.kill(os.getpid(), ENDS[how])
    else:
        time.sleep(0.2)
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(60)


if __name__ == "__main__":
    with user_errors("worker"):
        launch(work, device="cpu", args=("raise",))
