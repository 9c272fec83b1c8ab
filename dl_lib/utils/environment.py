"""Library versions, and the conditions that measured times depend on."""

from __future__ import annotations

import platform
from importlib import metadata

import torch

from dl_lib.utils.device_name import device_name

__all__ = ["library_versions", "measuring_environment"]

_PACKAGES = ("dl_lib", "torchvision", "numpy", "opencv-python-headless", "opencv-python", "fvcore", "tensorboard")


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
