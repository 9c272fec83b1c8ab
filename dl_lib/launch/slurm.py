"""Rank information from SLURM's srun, which starts one process per task of a job step.

Source: "OUTPUT ENVIRONMENT VARIABLES" in https://slurm.schedmd.com/srun.html and https://slurm.schedmd.com/sbatch.html;
the reserved step numbers are defined in slurm.h.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from dl_lib.launch.process_info import LaunchError, ProcessInfo, master_endpoint, non_negative_int

__all__ = ["slurm_process_info"]

_FIRST_RESERVED_STEP = 0xFFFFFFF0  # batch scripts, interactive steps and others are numbered from here
_FIRST_PORT, _NUM_PORTS = 15000, 15000  # below Linux's ephemeral ports, which begin at 32768
_STEP = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_STEP_NODELIST")


def slurm_process_info(environment: Mapping[str, str]) -> ProcessInfo | None:
    """Return the rank information of a task in a multi-task job step, or None outside one.

    A batch script has SLURM_PROCID set but is not a step. An interactive shell is a step with one running task, even
    if several were requested: `srun --ntasks=4 --pty bash` keeps only the shell with the terminal.

    The init method is the first host of the step with a port derived from job and step number; MASTER_ADDR and
    MASTER_PORT take precedence.

    Raises:
        LaunchError: If the variables hold invalid values.
    """
    if not all(name in environment for name in _STEP) or _is_interactive(environment):
        return None
    tasks = next((name for name in ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS") if name in environment), None)
    if tasks is None or non_negative_int(environment, tasks) == 1:
        return None
    host = environment.get("MASTER_ADDR") or _first_host(environment["SLURM_STEP_NODELIST"])
    port = environment.get("MASTER_PORT") or str(_port(environment))
    return ProcessInfo(
        "srun",
        rank=non_negative_int(environment, "SLURM_PROCID"),
        world_size=non_negative_int(environment, tasks),
        local_rank=non_negative_int(environment, "SLURM_LOCALID"),
        init_method=master_endpoint(host, port),
    )


def _is_interactive(environment: Mapping[str, str]) -> bool:
    if non_negative_int(environment, "SLURM_STEP_ID") >= _FIRST_RESERVED_STEP:
        return True
    # Steps started from an interactive shell inherit its variables but not its terminal.
    return "SLURM_PTY_PORT" in environment and _has_terminal()


def _has_terminal() -> bool:
    """Return whether the process has a controlling terminal, however its input and output are redirected."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY))
    except OSError:
        return False
    return True


def _first_host(nodelist: str) -> str:
    """Return the first host of a SLURM node list: gpu03 for `gpu[03-05,9],login1`."""
    match = re.match(r"(?:[^,\[\]]|\[[^\[\]]+\])+", nodelist)
    if match is None:
        raise LaunchError(
            "SLURM_STEP_NODELIST must begin with a host name; set MASTER_ADDR to the host of rank 0. "
            f"Received: SLURM_STEP_NODELIST={nodelist!r}"
        )
    return re.sub(r"\[([^,\-\]]+)[^\]]*\]", r"\1", match[0])


def _port(environment: Mapping[str, str]) -> int:
    """Return a port that differs between the steps of a job and between consecutive jobs, which may share a machine."""
    job, step = (non_negative_int(environment, name) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    return _FIRST_PORT + (31 * job + step) % _NUM_PORTS
