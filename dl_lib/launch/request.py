"""How many processes a command asks for, against how many a launcher has started."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from dl_lib.launch.errors import LaunchError
from dl_lib.launch.process_info import ProcessInfo
from dl_lib.launch.slurm import slurm_process_info
from dl_lib.launch.torchrun import torchrun_process_info

__all__ = ["ANY_PORT", "ProcessRequest", "detect_process_info", "resolve_world_size"]

ANY_PORT = "auto"  # a meeting point on this machine, at a port that is free


@dataclass(frozen=True)
class ProcessRequest:
    """The processes that a command is to start.

    Attributes:
        num_processes: on this machine; None is one process, or those that a launcher has started.
        num_machines: machines that run the same command.
        machine_rank: number of this machine, from 0.
        dist_url: where the processes meet, such as "tcp://host:port"; "auto" is a free port of this machine.

    Raises:
        LaunchError: if the numbers do not fit together.
    """

    num_processes: int | None = None
    num_machines: int = 1
    machine_rank: int = 0
    dist_url: str = ANY_PORT

    def __post_init__(self) -> None:
        if self.num_processes is not None and self.num_processes < 1:
            raise LaunchError(
                "a machine has at least one process; to leave its GPUs alone, take --device cpu. "
                f"Received: num_processes={self.num_processes}"
            )
        if not 0 <= self.machine_rank < self.num_machines:
            raise LaunchError(
                "machines are numbered from 0 to num_machines - 1. "
                f"Received: machine_rank={self.machine_rank}, num_machines={self.num_machines}"
            )
        if self.num_machines > 1 and self.dist_url == ANY_PORT:
            raise LaunchError(
                "several machines need to be told where they meet: an address of machine 0 and a free port of it, such "
                f"as --dist-url tcp://10.0.0.1:29500. Received: dist_url='auto', num_machines={self.num_machines}"
            )

    @property
    def per_machine(self) -> int:
        return self.num_processes or 1

    @property
    def world_size(self) -> int:
        """Processes over all machines, if no launcher has started them."""
        return self.per_machine * self.num_machines


def detect_process_info(request: ProcessRequest, environment: Mapping[str, str] = os.environ) -> ProcessInfo | None:
    """The place of this process among those that a launcher has started; None if it is this process that starts them.

    torchrun's variables come first: inside a step of SLURM, it is torchrun that has started the processes.

    Raises:
        LaunchError: if the environment contradicts itself, or the request contradicts it.
    """
    info = torchrun_process_info(environment) or slurm_process_info(environment)
    if info is None or request == ProcessRequest():
        return info
    if request.world_size != info.world_size or request.dist_url != ANY_PORT:
        raise LaunchError(
            f"{info.launcher} has started this process as one of {info.world_size}, and that counts; leave out "
            "--num-gpus, --num-processes, --num-machines, --machine-rank and --dist-url, or start the command without "
            f"{info.launcher}. Received: {request}"
        )
    return info


def resolve_world_size(request: ProcessRequest, environment: Mapping[str, str] = os.environ) -> int:
    """Processes of the run, whoever starts them; raises as `detect_process_info`."""
    info = detect_process_info(request, environment)
    return request.world_size if info is None else info.world_size
