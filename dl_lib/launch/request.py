"""Requested processes of a command, checked against those started by a launcher."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from dl_lib.launch.process_info import LaunchError, ProcessInfo, check_endpoint
from dl_lib.launch.slurm import slurm_process_info
from dl_lib.launch.torchrun import torchrun_process_info

__all__ = ["ANY_PORT", "ProcessRequest", "detect_process_info", "resolve_world_size"]

_MAX_PER_MACHINE, _MAX_MACHINES = 1024, 65536
ANY_PORT = "auto"  # an init method on this machine with a free port


@dataclass(frozen=True)
class ProcessRequest:
    """Processes that a command should start.

    Attributes:
        num_processes: Processes on this machine; None means one, or those that a launcher has started.
        num_machines: Machines that run the same command.
        machine_rank: Rank of this machine, from 0.
        dist_url: Init method, such as "tcp://host:port"; "auto" uses a free port on this machine.

    Raises:
        LaunchError: If the values are inconsistent.
    """

    num_processes: int | None = None
    num_machines: int = 1
    machine_rank: int = 0
    dist_url: str = ANY_PORT

    def __post_init__(self) -> None:
        if self.num_processes is not None and not 1 <= self.num_processes <= _MAX_PER_MACHINE:
            raise LaunchError(
                f"num_processes must be in [1, {_MAX_PER_MACHINE}]; use --device cpu to train without GPUs. "
                f"Received: num_processes={self.num_processes}"
            )
        if not 1 <= self.num_machines <= _MAX_MACHINES:
            raise LaunchError(
                f"num_machines must be in [1, {_MAX_MACHINES}]. Received: num_machines={self.num_machines}"
            )
        if not 0 <= self.machine_rank < self.num_machines:
            raise LaunchError(
                "machine_rank must be between 0 and num_machines - 1. "
                f"Received: machine_rank={self.machine_rank}, num_machines={self.num_machines}"
            )
        if self.num_machines > 1 and self.dist_url == ANY_PORT:
            raise LaunchError(
                "dist_url is required with several machines; use an address and a free port of machine 0, such as "
                f"--dist-url tcp://10.0.0.1:29500. Received: dist_url='auto', num_machines={self.num_machines}"
            )
        if self.dist_url != ANY_PORT:
            check_endpoint(self.dist_url, name="dist_url")

    @property
    def per_machine(self) -> int:
        """Processes on each machine."""
        return self.num_processes or 1

    @property
    def world_size(self) -> int:
        """Processes on all machines when no launcher has started them."""
        return self.per_machine * self.num_machines


def detect_process_info(request: ProcessRequest, environment: Mapping[str, str] = os.environ) -> ProcessInfo | None:
    """Return the rank information set by a launcher, or None if this process should start the others.

    torchrun's variables take precedence over SLURM's: inside a SLURM job step, srun starts torchrun.

    Raises:
        LaunchError: If the environment is inconsistent, or contradicts the request.
    """
    info = torchrun_process_info(environment) or slurm_process_info(environment)
    if info is None or request == ProcessRequest():
        return info
    if request.world_size != info.world_size or request.dist_url != ANY_PORT:
        raise LaunchError(
            f"{info.launcher} has started this process with world size {info.world_size}, which does not match the "
            "options of the command; omit --num-gpus, --num-processes, --num-machines, --machine-rank and --dist-url, "
            f"or start the command without {info.launcher}. Received: {request}"
        )
    return info


def resolve_world_size(request: ProcessRequest, environment: Mapping[str, str] = os.environ) -> int:
    """Return the world size of the run, as set by a launcher or requested; see `detect_process_info`."""
    info = detect_process_info(request, environment)
    return request.world_size if info is None else info.world_size
