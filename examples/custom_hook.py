"""Add a training hook with a state: the best loss so far, recorded in metrics.json and kept in checkpoints.

    python examples/custom_hook.py

In an experiment, put the registration into `net.py` next to `config.yaml`, which selects the hook:

    EXTRA_HOOKS: [best_loss]
"""

import math
from collections.abc import Mapping

import torch

from dl_lib.config import CfgNode
from dl_lib.engine import Trainer
from dl_lib.engine.hooks import HOOK_REGISTRY, Hook


class BestLoss(Hook):
    """Hook that records the smallest loss of all iterations."""

    def __init__(self) -> None:
        self.best = math.inf

    def after_step(self, trainer: Trainer) -> None:
        self.best = min(self.best, trainer.events.latest("total_loss"))
        trainer.events.put({"best_loss": self.best}, kind="latest")  # written at the next LOG_PERIOD

    def state_dict(self) -> dict[str, float]:
        return {"best": self.best}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        self.best = state["best"]


@HOOK_REGISTRY.register()
def best_loss(cfg: CfgNode) -> BestLoss:
    """Build the hook; its settings would come from keys of its own (see custom_loss.py)."""
    return BestLoss()


class Regression(torch.nn.Module):
    """Smallest model that the training loop accepts: it returns losses and metrics."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, batch: list[float], step_rate: float) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        return {"loss": sum((self.weight - target) ** 2 for target in batch) / len(batch)}, {}


def main() -> None:
    model, hook = Regression(), BestLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = iter(lambda: [1.0, 2.0], None)
    trainer = Trainer(model, batches, optimizer, max_iter=20, hooks=[hook])
    trainer.train()
    print(f"best loss: {hook.best:.3f}")


if __name__ == "__main__":
    main()
