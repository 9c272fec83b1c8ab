"""Where a process stands in its run, as the launcher that started it says in the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dl_lib.launch.errors import LaunchError

__all__ = ["Launcher", "ProcessInfo", "whole_number"]

Launcher = Literal["torchrun", "srun", "spawn"]


@dataclass(frozen=True)
class ProcessInfo:
    """The place of a process among those of its run.

    Attributes:
        launcher: what started the process.
        rank: its number over all machines.
        world_size: how many processes the run has.
        local_rank: its number on its machine.
        init_method: where the processes meet, an `init_method` of `torch.distributed.init_process_group`.
        is_hosted: whether the launcher keeps the store at a `tcp://` meeting point; else the process of rank 0 does.
        attempt: tells the processes that meet now from those that a launcher has started before, at the same store.
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
                "processes are numbered from 0 to their number - 1. "
                f"Received: rank={self.rank}, world_size={self.world_size}, from {self.launcher}"
            )
        if self.local_rank < 0:
            raise LaunchError(
                "the processes of a machine are numbered from 0. "
                f"Received: local_rank={self.local_rank}, from {self.launcher}"
            )


def whole_number(environment: Mapping[str, str], name: str) -> int:
    """A variable of the environment that holds a whole number from 0.

    Raises:
        LaunchError: if it holds anything else.
    """
    text = environment[name]
    if not (text.isascii() and text.isdecimal()):
        raise LaunchError(f"{name} should be a whole number from 0. Received: {name}={text!r}")
    return int(text)
