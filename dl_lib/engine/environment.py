"""Description of the environment of a run: versions, GPUs, CPU cores."""

from __future__ import annotations

import platform
from importlib import metadata

import torch
from tabulate import tabulate

from dl_lib.data.worker_limits import usable_cores
from dl_lib.utils import comm
from dl_lib.utils.device_name import device_name

__all__ = ["describe_environment", "library_versions", "measuring_environment"]

_PACKAGES = ("dl_lib", "torchvision", "numpy", "opencv-python-headless", "opencv-python", "fvcore", "tensorboard")


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


def library_versions() -> dict[str, str]:
    """Return the versions of Python, torch and other numerical libraries, by name."""
    installed = {package: version for package in _PACKAGES if (version := _version_of(package))}
    return {"python": platform.python_version(), "torch": str(torch.__version__), **installed}


def measuring_environment(device: torch.device) -> dict[str, str]:
    """Return the device, threads and versions that measured times depend on, by name."""
    return {"device": device_name(device), "threads": str(torch.get_num_threads()), **library_versions()}


def _version_of(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _gpus(*, used: bool) -> str:
    if not torch.cuda.is_available():
        return "none"
    if not used:
        return f"{torch.cuda.device_count()} (not used)"
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return f"{', '.join(names)} (CUDA {torch.version.cuda})"
