"""Add a loss with a config key for its weight, and compute the losses of a small network.

    python examples/custom_loss.py

In an experiment, put the registrations into `net.py` next to `config.yaml`, which selects the loss:

    MODEL: {LOSS: {EXTRA: [focal], FOCAL_WEIGHT: 0.5}}
"""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from dl_lib.config import CfgNode, add_keys, get_cfg
from dl_lib.config.key import key
from dl_lib.modeling import LOSS_REGISTRY, build_model

add_keys(
    key("MODEL.LOSS.FOCAL_WEIGHT", 1.0, "Weight of the focal loss.", range="[0, inf)"),
    key("MODEL.LOSS.FOCAL_GAMMA", 2.0, "Exponent of the focal loss (arXiv 1708.02002).", range="[0, inf)"),
)


def focal_loss(logits: Tensor, target: Tensor, *, weight: float, gamma: float, ignore_value: int) -> Tensor:
    """Return weight * mean((1 - p)**gamma * -log p), with the probability p of the true class."""
    entropy = F.cross_entropy(logits, target, ignore_index=ignore_value, reduction="none")
    labelled = (target != ignore_value).sum(dim=(1, 2)).clamp(min=1)
    per_image = ((1 - (-entropy).exp()) ** gamma * entropy).sum(dim=(1, 2)) / labelled
    return weight * per_image.mean()


@LOSS_REGISTRY.register()
def focal(cfg: CfgNode) -> partial[Tensor]:
    """Build the loss; it is called with logits (B, C, H, W) and class ids (B, H, W)."""
    loss = cfg.MODEL.LOSS
    ignore_value = cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    return partial(focal_loss, weight=loss.FOCAL_WEIGHT, gamma=loss.FOCAL_GAMMA, ignore_value=ignore_value)


def main() -> None:
    cfg = get_cfg()
    cfg.merge_from_list(["MODEL.DEVICE=cpu", "MODEL.LOSS.EXTRA=[focal]", "MODEL.LOSS.FOCAL_WEIGHT=0.5"])
    cfg.merge_from_list(["MODEL.BACKBONE.LAYER_NUM=2", "MODEL.BACKBONE.CELL_NUM_LIST=[2, 3]"])
    cfg.merge_from_list(["MODEL.SEM_SEG_HEAD.IN_FEATURES=[layer_0, layer_1, layer_2]", "MODEL.BACKBONE.MAX_STRIDE=16"])
    cfg.merge_from_list(["MODEL.BACKBONE.INIT_CHANNEL=16"])
    model = build_model(cfg).train()
    image = torch.randint(256, (3, 64, 64), dtype=torch.uint8)
    losses, _ = model([{"image": image, "sem_seg": torch.randint(19, (64, 64))}], step_rate=0.0)
    print(", ".join(f"{name} {loss:.3f}" for name, loss in losses.items()))


if __name__ == "__main__":
    main()
