"""Which old checkpoints of a run are deleted, and when."""

from __future__ import annotations

import logging
import os

from dl_lib.checkpoint.checksums import checksum_path
from dl_lib.checkpoint.folder import RunFolder

__all__ = ["prune", "remove_leftovers"]

_log = logging.getLogger(__name__)


def prune(folder: RunFolder, *, iteration: int, keep_last: int, keep_every: int) -> None:
    """Deletes old checkpoints, once a new one is completely on the disk.

    Only what this library surely wrote for this run goes: `model_<iteration>.pth` with a checksum beside it, which is
    not an earlier run's. Those of later iterations, which a run leaves behind that went back, do not count and stay.
    The checkpoint goes before its checksum: what is left after a kill in between is removed with the leftovers.

    Args:
        folder: of the run.
        iteration: steps done; a checkpoint of them is on the disk.
        keep_last: how many of the newest stay, the present one included; 0 keeps all.
        keep_every: those after a multiple of so many iterations stay too; 0 for none.
    """
    if keep_last == 0:
        return
    reached = {at: name for at, name in folder.numbered().items() if at <= iteration}
    for at in list(reached)[keep_last:]:
        path = folder.place(reached[at])
        if (keep_every and at % keep_every == 0) or not os.path.exists(checksum_path(path)):
            continue
        if _removed(path) and _removed(checksum_path(path)):
            _log.info("Deleted %s", path)


def remove_leftovers(folder: RunFolder) -> None:
    """Removes what a process left in the folder that was killed while it saved."""
    for name in folder.leftovers():
        if _removed(folder.place(name)):
            _log.info("Removed %s, a save that was cut off left it", folder.place(name))


def _removed(path: str) -> bool:
    """Whether a file is gone now; that it stays costs room only, and ends no training."""
    try:
        os.remove(path)
    except FileNotFoundError:
        return True
    except OSError as error:
        _log.warning("%s could not be deleted: %s", path, error.strerror or error)
        return False
    return True
