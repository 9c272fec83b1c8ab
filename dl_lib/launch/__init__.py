"""Process launch: one process, processes spawned by the command, or processes of torchrun or SLURM's srun.

Does not import torch: commands read the world size before they load torch, and `signals` must be imported before torch.
The entry point is `dl_lib.launch.launch.launch`.
"""

from dl_lib.launch.process_info import LaunchError, LostProcessError
from dl_lib.launch.request import ProcessRequest, detect_process_info, resolve_world_size
from dl_lib.launch.signals import exit_with_parent

__all__ = [
    "LaunchError",
    "LostProcessError",
    "ProcessRequest",
    "detect_process_info",
    "exit_with_parent",
    "resolve_world_size",
]
