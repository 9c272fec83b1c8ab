"""What tests of launching run in the processes; a command by itself, so that torchrun can start it, too."""

import os
import signal
import time

import torch

from dl_lib.cli.errors import user_errors
from dl_lib.config import ConfigError
from dl_lib.launch.launch import launch
from dl_lib.utils import comm


class Unusual(ConfigError):
    """An error that no text alone can make."""

    def __init__(self, key, *, value):
        super().__init__(f"{key} is {value}")


def work(how):
    """A few steps together; then the second process ends, and the first waits for it in vain."""
    weights = learn()
    if comm.get_rank() == 0:
        print("pid", os.getpid(), weights, flush=True)
        comm.synchronize()
    elif how == "raise":
        raise Unusual("KEY", value=3)
    elif how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        time.sleep(0.2)
        os.kill(os.getppid(), signal.SIGTERM)
        time.sleep(60)


def learn():
    """The weights, to the last bit, of a least-squares fit of which each process sees its share."""
    share = torch.Generator().manual_seed(comm.get_rank())
    x, weights = torch.randn(4, 3, generator=share), torch.zeros(3)
    for _ in range(3):
        weights -= 0.1 * comm.average(x.T @ (x @ weights - 1))
    return ",".join(value.hex() for value in weights.tolist())


def die_then_raise():
    """As torchrun restarts it once: first the one, then the other."""
    work("raise" if os.environ["TORCHELASTIC_RESTART_COUNT"] == "1" else "die")


if __name__ == "__main__":
    with user_errors("worker"):
        launch(die_then_raise, device="cpu")
