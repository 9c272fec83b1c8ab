"""From one command to the processes of a run, whoever starts them: this one, torchrun, or SLURM's srun.

Without torch, which those who only want to know how many processes there will be need not wait for, and which `parent`
has to come before; `launch` itself is in `dl_lib.launch.launch`.
"""

from dl_lib.launch.errors import LaunchError, LostProcessError
from dl_lib.launch.parent import exit_with_parent
from dl_lib.launch.request import ProcessRequest, detect_process_info, resolve_world_size

__all__ = [
    "LaunchError",
    "LostProcessError",
    "ProcessRequest",
    "detect_process_info",
    "exit_with_parent",
    "resolve_world_size",
]
