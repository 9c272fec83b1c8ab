"""Description of the environment of a run: versions, GPUs, CPU cores."""

from __future__ import annotations

import platform

import torch
from tabulate import tabulate

from dl_lib.data.worker_limits import usable_cores
from dl_lib.utils import comm
from dl_lib.utils.environment import library_versions

__all__ = ["describe_environment"]


def describe_environment(*, uses_gpus: bool) -> str:
    """Return a two-column table of the environment.

    Args:
        uses_gpus: Whether the run uses available GPUs; if not, they are only counted, because querying their names
            initializes CUDA.
    """
    rows = [("system", platform.platform()), *library_versions().items()]
    rows += [
        ("GPUs", _gpus(used=uses_gpus)),
        ("CPU cores", f"{usable_cores()} (torch threads: {torch.get_num_threads()})"),
    ]
    if comm.get_world_size() > 1:
        rows.append(("processes", str(comm.get_world_size())))
    return tabulate(rows, tablefmt="plain", disable_numparse=True)


def _gpus(*, used: bool) -> str:
    if not torch.cuda.is_available():
        return "none"
    if not used:
        return f"{torch.cuda.device_count()} (not used)"
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"{', '.join(names)} (CUDA {torch.version.cuda})"
