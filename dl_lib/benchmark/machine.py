"""What a benchmark ran on, and the allocator settings that the CPU's figures hang on."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

__all__ = ["TUNED_ALLOCATOR", "allocator_settings", "describe_machine"]

# glibc maps blocks over 32 MB anew at each allocation, and then every page of them faults: at 1024x2048 that takes a
# good part of the time. With these limits it takes them from memory that it keeps, and keeps what it was given.
TUNED_ALLOCATOR: Mapping[str, str] = {
    "MALLOC_MMAP_THRESHOLD_": str(8 * 2**30),
    "MALLOC_TRIM_THRESHOLD_": str(16 * 2**30),
    "MALLOC_TOP_PAD_": str(256 * 2**20),
}


def allocator_settings() -> dict[str, str]:
    """The environment variables that choose or tune this process's allocator, those that are set."""
    names = ("LD_PRELOAD", "GLIBC_TUNABLES", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
    return {name: value for name, value in sorted(os.environ.items()) if name in names or name.startswith("MALLOC_")}


def describe_machine(device: str) -> dict[str, str]:
    """Names and values for the head of the report; threads are those of torch at the moment.

    Args:
        device: cpu or cuda, which is measured.
    """
    import torch  # not before --allocator has started the process anew

    allocator = allocator_settings()
    values = {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "CPU": f"{_cpu_model()}, {len(os.sched_getaffinity(0))} cores usable",
        "threads": str(torch.get_num_threads()),
        "device": device,
        "torch": torch.__version__,
        "allocator": ", ".join(f"{k}={v}" for k, v in allocator.items()) or f"{_c_library()} with its defaults",
    }
    if device != "cpu":
        tf32 = {"convolutions": torch.backends.cudnn.allow_tf32, "matmul": torch.backends.cuda.matmul.allow_tf32}
        values["device"] += f", {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
        values["TF32"] = ", ".join(f"{name} {'on' if is_on else 'off'}" for name, is_on in tf32.items())
    return values


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _c_library() -> str:
    return " ".join(platform.libc_ver()) or "the C library"
