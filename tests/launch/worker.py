"""Function that the launch tests run in each process; also a script, so that torchrun can start it."""

import os
import signal
import time

from dl_lib.cli.errors import user_errors
from dl_lib.config import ConfigError
from dl_lib.launch.launch import launch
from dl_lib.utils import comm

SIGNALS = {"die": signal.SIGKILL, "hang": signal.SIGSTOP}  # a stopped process exists but does not respond


class UnpicklableError(ConfigError):
    """Error that cannot be created from its message alone."""

    def __init__(self, key, *, value):
        super().__init__(f"{key} is {value}")


def work(how):
    """Run one collective; then rank 1 fails as requested while rank 0 waits in the next collective."""
    if comm.get_rank() == 0 or how == "hang":
        print(f"pid {os.getpid()}\n", end="", flush=True)  # one write, as both processes may print
    comm.synchronize()
    if comm.get_rank() == 0:
        comm.synchronize()
    elif how == "raise":
        raise UnpicklableError("KEY", value=3)
    elif how in SIGNALS:
        os.kill(os.getpid(), SIGNALS[how])
    else:
        time.sleep(0.2)
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(60)


if __name__ == "__main__":
    with user_errors("worker"):
        launch(work, device="cpu", args=("raise",))
