"""Starting the processes of a run, or joining those that a launcher has started."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import record
from torch.multiprocessing import _prctl_pr_set_pdeathsig

from dl_lib.launch import place_from_environment
from dl_lib.launch.errors import LaunchError
from dl_lib.launch.first_report import is_first_to_report
from dl_lib.launch.place import Place
from dl_lib.launch.process_group import TIMEOUT_SECONDS, joined, uses_gpu
from dl_lib.launch.spawning import run_spawned

__all__ = ["launch", "resolve_world_size"]
