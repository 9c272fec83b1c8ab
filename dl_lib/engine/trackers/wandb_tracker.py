"""Weights & Biases as an experiment tracker (https://docs.wandb.ai)."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dl_lib.config import CfgNode
from dl_lib.engine.trackers.registry import TRACKER_REGISTRY, HParam, Tracker
from dl_lib.utils.extras import requires_extra

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["WandbTracker"]

_ONLINE_MODES = ("online", "run", "shared")
_ENVIRONMENT = {  # unless they are set
    "WANDB_CONSOLE": "off",  # log.txt has the lines of the terminal
    "WANDB_ERROR_REPORTING": "false",  # crash reports would be sent from offline runs, too
    "WANDB_FINISH_TIMEOUT": "600",  # seconds; without it, a run never ends while the network is down
    "WANDB_PROJECT": "dl_lib",
    "WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL": "1",  # seconds whose rows a killed run loses, by default 15
}

_log = logging.getLogger(__name__)


class WandbTracker(Tracker):
    """Tracker that writes a wandb run, whose step is the iteration; its files are in the folder `wandb`.

    wandb's environment variables apply. Without credentials, the run is recorded offline instead of asking for them.

    Args:
        folder: Run folder, whose name becomes that of the wandb run.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)
        self._run: Any = None

    def open(self, *, run_id: str | None, written: int, hparams: Mapping[str, HParam]) -> str:
        for name, value in _ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        with requires_extra("wandb", feature="TRACKERS=[wandb]", packages="wandb"):
            import wandb

        settings = wandb.setup().settings
        needs_login = settings.mode in _ONLINE_MODES and not _has_credentials(settings)
        if needs_login:
            _log.warning("wandb has no API key: recording offline; log in with wandb login, upload with wandb sync")
        self._run = wandb.init(
            id=run_id,
            resume=None if run_id is None else "allow",
            mode="offline" if needs_login else None,
            dir=str(self._folder),
            name=os.environ.get("WANDB_NAME", self._folder.absolute().name),
        )
        self._run.config.update(dict(hparams), allow_val_change=True)
        return self._run.id

    def write(self, metrics: Mapping[str, float], *, iteration: int) -> None:
        self._run.log(dict(metrics), step=iteration, commit=True)

    def write_image(self, name: str, image: npt.NDArray[np.uint8], *, iteration: int) -> None:
        import wandb

        self._run.log({name: wandb.Image(image)}, step=iteration)

    def write_final(self, metrics: Mapping[str, float], *, iteration: int) -> None:
        self._run.summary.update(dict(metrics))

    def close(self, *, completed: bool) -> None:
        if self._run is not None:
            self._run.finish(exit_code=0 if completed else 1)


@TRACKER_REGISTRY.register()
def wandb(cfg: CfgNode) -> WandbTracker:
    """Build the tracker of a run folder."""
    return WandbTracker(cfg.OUTPUT_DIR)


def _has_credentials(settings: Any) -> bool:
    """Return whether wandb finds the user's credentials, without which it would ask for them in a terminal."""
    if settings.api_key or settings.identity_token_file:
        return True
    try:
        return netrc(os.environ.get("NETRC")).authenticators(urlsplit(settings.base_url).hostname or "") is not None
    except (OSError, NetrcParseError):
        return False
