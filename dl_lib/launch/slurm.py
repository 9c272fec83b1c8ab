"""Processes that SLURM's srun has started, one for each task of a job step.

Source: "OUTPUT ENVIRONMENT VARIABLES" in https://slurm.schedmd.com/srun.html and https://slurm.schedmd.com/sbatch.html;
the numbers of steps that are no steps are in slurm.h.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from dl_lib.launch.errors import LaunchError
from dl_lib.launch.process_info import ProcessInfo, whole_number

__all__ = ["slurm_process_info"]

_FIRST_SPECIAL_STEP = 0xFFFFFFF0  # batch scripts, interactive shells and the like have numbers from here
_FIRST_PORT, _NUM_PORTS = 15000, 15000  # below those that Linux gives to outgoing connections, from 32768
_STEP = ("SLURM_PROCID", "SLURM_LOCALID", "SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_STEP_NODELIST")


def slurm_process_info(environment: Mapping[str, str]) -> ProcessInfo | None:
    """The place of a task in a step of several; None for everything else that SLURM's variables stand in.

    A batch script has a SLURM_PROCID of its own, but no step. An interactive shell is a step that nobody else takes
    part in, even if it asked for several tasks: `srun --ntasks=4 --pty bash` runs one that lasts, with a terminal.

    The processes meet on the first host of the step, at a port that follows from the job's and the step's number;
    MASTER_ADDR and MASTER_PORT, where they are set, come first.

    Raises:
        LaunchError: if the numbers make no sense.
    """
    if not all(name in environment for name in _STEP) or _is_interactive(environment):
        return None
    tasks = next((name for name in ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS") if name in environment), None)
    if tasks is None or whole_number(environment, tasks) == 1:
        return None
    host = environment.get("MASTER_ADDR") or _first_host(environment["SLURM_STEP_NODELIST"])
    port = environment.get("MASTER_PORT") or _port(environment)
    return ProcessInfo(
        "srun",
        rank=whole_number(environment, "SLURM_PROCID"),
        world_size=whole_number(environment, tasks),
        local_rank=whole_number(environment, "SLURM_LOCALID"),
        init_method=f"tcp://{host}:{port}",
    )


def _is_interactive(environment: Mapping[str, str]) -> bool:
    if whole_number(environment, "SLURM_STEP_ID") >= _FIRST_SPECIAL_STEP:
        return True
    # The shell's variables reach the steps that are started from it, its terminal does not.
    return "SLURM_PTY_PORT" in environment and _has_terminal()


def _has_terminal() -> bool:
    """Whether somebody could press Ctrl-C, wherever input and output go."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY))
    except OSError:
        return False
    return True


def _first_host(nodelist: str) -> str:
    """The first of hosts as SLURM writes them: `gpu[03-05,9],login1` begins with gpu03."""
    match = re.match(r"(?:[^,\[\]]|\[[^\[\]]+\])+", nodelist)
    if match is None:
        raise LaunchError(f"no host can be read from SLURM_STEP_NODELIST. Received: SLURM_STEP_NODELIST={nodelist!r}")
    return re.sub(r"\[([^,\-\]]+)[^\]]*\]", r"\1", match[0])


def _port(environment: Mapping[str, str]) -> int:
    """Steps of one job, and jobs one after the other, get different ones, as they may share a machine."""
    job, step = (whole_number(environment, name) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    return _FIRST_PORT + (31 * job + step) % _NUM_PORTS
