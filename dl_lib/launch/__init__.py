"""From one command to the processes of a run, whoever starts them: this one, torchrun, or SLURM's srun.

Without torch, which those who only want to know how many processes there will be need not wait for; `launch` itself is
in `dl_lib.launch.launch`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from dl_lib.launch.errors import LaunchError, LostProcessError
from dl_lib.launch.place import Place
from dl_lib.launch.slurm import slurm_place
from dl_lib.launch.torchrun import torchrun_place

__all__ = ["LaunchError", "LostProcessError", "Place", "place_from_environment"]


def place_from_environment(environment: Mapping[str, str] = os.environ) -> Place | None:
    """The place of this process in a run that a launcher has started; None if none has.

    torchrun's variables come first: inside a step of SLURM, it is torchrun that has started the processes.

    Raises:
        LaunchError: if the environment contradicts itself.
    """
    return torchrun_place(environment) or slurm_place(environment)
