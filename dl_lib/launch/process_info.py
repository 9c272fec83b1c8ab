"""Rank, world size and init method of a process, and the errors of process launch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

__all__ = [
    "LaunchError",
    "Launcher",
    "LostProcessError",
    "ProcessInfo",
    "check_endpoint",
    "master_endpoint",
    "non_negative_int",
]

_MAX_DIGITS = 18

Launcher = Literal["torchrun", "srun", "spawn"]


class LaunchError(ValueError):
    """Failure to start the processes as requested."""


class LostProcessError(RuntimeError):
    """Process of the run that has exited or does not respond, so that the others cannot continue."""


@dataclass(frozen=True)
class ProcessInfo:
    """Position of a process in its run.

    Attributes:
        launcher: Program that started the process.
        rank: Rank over all machines.
        world_size: Number of processes of the run.
        local_rank: Rank on this machine.
        init_method: URL for `torch.distributed.init_process_group`.
        is_hosted: Whether the launcher hosts the store at a `tcp://` init method; otherwise rank 0 does.
        attempt: Prefix of the store's keys; separates the workers of successive restarts that share one store.
    """

    launcher: Launcher
    rank: int
    world_size: int
    local_rank: int
    init_method: str
    is_hosted: bool = False
    attempt: str = "0"

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise LaunchError(
                "rank must be between 0 and world_size - 1. "
                f"Received: rank={self.rank}, world_size={self.world_size}, launcher={self.launcher}"
            )
        if self.local_rank < 0:
            raise LaunchError(
                f"local_rank must not be negative. Received: local_rank={self.local_rank}, launcher={self.launcher}"
            )


def check_endpoint(url: str, *, name: str) -> None:
    """Raise LaunchError unless a rendezvous endpoint has the form `tcp://HOST:PORT`; `name` is that of the value."""
    try:
        address = urlsplit(url)
        is_valid = bool(address.scheme == "tcp" and address.hostname and address.port and not address.path)
    except ValueError:  # the port is no number, or over 65535
        is_valid = False
    if not is_valid:
        raise LaunchError(
            f"{name} must be of the form tcp://HOST:PORT, with a port between 1 and 65535. Received: {name}={url!r}"
        )


def master_endpoint(host: str, port: str) -> str:
    """Return the rendezvous endpoint of MASTER_ADDR and MASTER_PORT; raise LaunchError unless it is valid."""
    endpoint = f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
    check_endpoint(endpoint, name="tcp://MASTER_ADDR:MASTER_PORT")
    return endpoint


def non_negative_int(environment: Mapping[str, str], name: str) -> int:
    """Return an environment variable as an integer; raise LaunchError unless it is a non-negative decimal one."""
    text = environment[name]
    if not (text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS):
        raise LaunchError(
            f"{name} must be a non-negative integer of at most {_MAX_DIGITS} digits. Received: {name}={text!r:.200}"
        )
    return int(text)
