"""Add an experiment tracker: a CSV file with the metrics, one for each run, which a resumed run continues.

    python examples/custom_tracker.py

In an experiment, put the registration into `net.py` next to `config.yaml`, which selects the tracker:

    TRACKERS: [tensorboard, csv_file]
"""

import tempfile
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TextIO

import torch

from dl_lib.config import CfgNode
from dl_lib.engine import Trainer
from dl_lib.engine.hooks import PeriodicWriter
from dl_lib.engine.trackers import TRACKER_REGISTRY, GuardedTracker, HParam, Tracker


class CSVTracker(Tracker):
    """Tracker that appends `iteration,name,value` to a file."""

    def __init__(self, folder: str) -> None:
        self.folder = Path(folder)
        self.file: TextIO | None = None

    def open(self, *, run_id: str | None, written: int, hparams: Mapping[str, HParam]) -> str:
        run_id = run_id or time.strftime("%Y%m%d_%H%M%S")  # None unless the run is resumed
        self.file = (self.folder / f"{run_id}.csv").open("a")
        return run_id

    def write(self, metrics: Mapping[str, float], *, iteration: int) -> None:
        self.file.writelines(f"{iteration},{name},{value:.6g}\n" for name, value in metrics.items())
        self.file.flush()

    def close(self, *, completed: bool) -> None:
        self.file.close()


@TRACKER_REGISTRY.register()
def csv_file(cfg: CfgNode) -> CSVTracker:
    """Build the tracker; its settings would come from keys of its own (see custom_loss.py)."""
    return CSVTracker(cfg.OUTPUT_DIR)


class Regression(torch.nn.Module):
    """Smallest model that the training loop accepts: it returns losses and metrics."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, batch: list[float], step_rate: float) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        return {"loss": sum((self.weight - target) ** 2 for target in batch) / len(batch)}, {}


def main() -> None:
    model = Regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = iter(lambda: [1.0, 2.0], None)
    with tempfile.TemporaryDirectory() as folder:
        writer = GuardedTracker(partial(CSVTracker, folder), name="csv_file", folder=Path(folder))
        Trainer(model, batches, optimizer, max_iter=20, hooks=[PeriodicWriter([writer], period=10)]).train()
        (file,) = Path(folder).glob("*.csv")
        losses = [line for line in file.read_text().splitlines() if "total_loss" in line]
    print(*losses, sep="\n")


if __name__ == "__main__":
    main()
