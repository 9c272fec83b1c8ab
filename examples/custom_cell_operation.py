"""Add a cell operation with its cost counter, and build and run a network whose cells use it.

    python examples/custom_cell_operation.py

In an experiment, put the registration into `net.py` next to `config.yaml`: it is imported before the config is checked.
"""

import torch
from torch import Tensor, nn

from dl_lib.config import get_cfg
from dl_lib.modeling import build_model
from dl_lib.modeling.costs.counters import count_madds
from dl_lib.modeling.dynamic.ops import CELL_OPERATIONS


class ChannelScale(nn.Module):
    """Learned factor for each channel (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


@count_madds.register
def count_channel_scale(scale: ChannelScale, x: Tensor, y: Tensor) -> int:
    """Return the multiply-adds of a batch: one per output element."""
    return y.numel()


@CELL_OPERATIONS.register()
def scaled_conv_3x3(channels: int, *, norm: str) -> nn.Module:
    """Return a 3x3 convolution with a factor per channel; `norm` names the norm of the config."""
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), ChannelScale(channels))


def main() -> None:
    cfg = get_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.CELL_TYPE = ["scaled_conv_3x3", "skip_connect"]  # their sum
    cfg.MODEL.BACKBONE.LAYER_NUM = 4
    cfg.MODEL.BACKBONE.CELL_NUM_LIST = [2, 3, 4, 4]
    cfg.MODEL.BACKBONE.INIT_CHANNEL = 16
    model = build_model(cfg).eval()
    with torch.inference_mode():
        (output,) = model([{"image": torch.rand(3, 64, 128) * 255}])
    print(f"logits: {tuple(output['sem_seg'].shape)}")
    print(f"executed: {output['flops']['executed_flops']:.2f} MFLOPs, including the new operation")


if __name__ == "__main__":
    main()
