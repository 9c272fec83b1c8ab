"""Baseline of the speed benchmarks: the plain eager network, which computes everything for every image.

Contiguous feature maps, separate norms, dense execution with soft gates, unreached cells run on zeros. It
imports nothing from dl_lib, so that improvements of the library do not move it. Parameters have the names of
`DynamicNet4Seg`, whose state dict it loads.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, pad

STEM_CHANNELS = 64
FINEST_STRIDE = 4
CLOSED_BELOW = 1e-4
MOVES = {"keep": 0, "up": -1, "down": 1}  # name -> change of the scale


def conv(
    cin: int, cout: int, size: int = 1, *, stride: int = 1, padding: int | None = None, groups: int = 1
) -> nn.Conv2d:
    """Build a convolution without bias; the default padding preserves the size at stride 1."""
    padding = size // 2 if padding is None else padding
    return nn.Conv2d(cin, cout, size, stride=stride, padding=padding, groups=groups, bias=False)


def conv_norm(
    cin: int, cout: int, size: int = 1, *, stride: int = 1, padding: int | None = None, act: bool = True
) -> nn.Sequential:
    """Build a convolution with norm and, if `act` is set, ReLU."""
    parts = OrderedDict(conv=conv(cin, cout, size, stride=stride, padding=padding), norm=nn.BatchNorm2d(cout))
    return nn.Sequential(parts | ({"act": nn.ReLU(inplace=True)} if act else {}))


def separable(cin: int, cout: int, *, stride: int = 1, act: bool = True) -> nn.Sequential:
    """Build a depthwise and a pointwise convolution with norm and, if `act` is set, ReLU."""
    parts = OrderedDict(depthwise=conv(cin, cin, 3, stride=stride, groups=cin), pointwise=conv(cin, cout))
    return nn.Sequential(parts | {"norm": nn.BatchNorm2d(cout)} | ({"act": nn.ReLU(inplace=True)} if act else {}))


OPERATIONS = {
    "sep_conv_3x3": lambda c: nn.Sequential(separable(c, c), separable(c, c, act=False)),
    "conv_3x3_basic": lambda c: conv_norm(c, c, 3, act=False),
    "skip_connect": lambda c: nn.Identity(),
}


class Gate(nn.Module):
    """Gate values (B, edges) of a cell."""

    def __init__(self, channels: int, edges: int) -> None:
        super().__init__()
        self.reduce = conv_norm(channels, channels // 2)
        self.predict = nn.Conv2d(channels // 2, edges, 1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.reduce(x).mean(dim=(2, 3), keepdim=True)
        gates = torch.relu(torch.tanh(self.predict(pooled).flatten(1)))
        return gates * (gates.sum(dim=1, keepdim=True) >= CLOSED_BELOW)


class Cell(nn.Module):
    """Operation, gate, and one transition per outgoing edge."""

    def __init__(self, channels: int, *, moves: Sequence[str], operations: Sequence[str]) -> None:
        super().__init__()
        self.operation = nn.ModuleDict({name: OPERATIONS[name](channels) for name in operations})
        self.gate = Gate(channels, len(moves))
        upsample = {"upsample": nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)}
        make = {
            "keep": nn.ReLU,
            "up": lambda: self._transition(conv_norm(channels, channels // 2), upsample),
            "down": lambda: self._transition(conv_norm(channels, 2 * channels, stride=2), {}),
        }
        self.transitions = nn.ModuleDict({move: make[move]() for move in moves})

    @staticmethod
    def _transition(convolution: nn.Sequential, last: dict[str, nn.Module]) -> nn.Sequential:
        return nn.Sequential(OrderedDict(relu=nn.ReLU()) | dict(convolution.named_children()) | last)

    def forward(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return the weighted output of each move and the input where the cell is closed, zeros elsewhere."""
        gates = self.gate(x)
        h = sum(operation(x) for operation in self.operation.values())
        weights = gates.unbind(dim=1)
        moved = {
            move: transition(h) * weight[:, None, None, None]
            for (move, transition), weight in zip(self.transitions.items(), weights, strict=True)
        }
        is_closed = (gates.sum(dim=1) == 0).to(x.dtype)
        return moved, x * is_closed[:, None, None, None]


class Backbone(nn.Module):
    """Stem and lattice."""

    def __init__(
        self, *, cells_per_layer: Sequence[int], channels: int, operations: Sequence[str], separable_stem: bool
    ) -> None:
        super().__init__()
        middle = separable if separable_stem else lambda cin, cout, stride=1: conv_norm(cin, cout, 3, stride=stride)
        self.stem = nn.Sequential(
            OrderedDict(
                conv1=conv_norm(3, STEM_CHANNELS, 3, stride=2, padding=0),
                conv2=middle(STEM_CHANNELS, STEM_CHANNELS),
                conv3=middle(STEM_CHANNELS, channels, stride=2),
            )
        )
        self.cells = nn.ModuleDict()
        self.layers = [1, *cells_per_layer]
        following = [*cells_per_layer, cells_per_layer[-1]]
        for layer, (here, after) in enumerate(zip(self.layers, following, strict=True)):
            for scale in range(here):
                moves = [
                    m
                    for m, step in MOVES.items()
                    if 0 <= scale + step < after and (step == 0 or layer < len(cells_per_layer))
                ]
                name = f"layer{layer}_stride{FINEST_STRIDE << scale}"
                self.cells[name] = Cell(channels << scale, moves=moves, operations=operations)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the outputs (B, C, H / s, W / s), finest first."""
        inputs = [self.stem(images)]
        for layer in range(len(self.layers)):
            outputs: dict[int, Tensor] = {}
            for scale, x in enumerate(inputs):
                moved, passed = self.cells[f"layer{layer}_stride{FINEST_STRIDE << scale}"](x)
                for target, y in [*((scale + MOVES[move], y) for move, y in moved.items()), (scale, passed)]:
                    outputs[target] = outputs[target] + y if target in outputs else y
            inputs = [outputs[scale] for scale in sorted(outputs)]
        return inputs


class Head(nn.Module):
    """Decoder from the coarsest to the finest scale."""

    def __init__(self, channels: int, *, scales: int, classes: int) -> None:
        super().__init__()
        self.projections = nn.ModuleDict()
        for scale in range(scales):
            self.projections[f"layer_{scale}"] = conv_norm(channels << scale, channels << max(0, scale - 1))
        self.predictor = nn.Conv2d(channels, classes, 3, padding=1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Return logits (B, classes, H / 4, W / 4)."""
        decoded = None
        for feature, projection in reversed([*zip(features, self.projections.values(), strict=True)]):
            if decoded is not None:
                feature = feature + interpolate(decoded, scale_factor=2, mode="bilinear", align_corners=False)
            decoded = projection(feature)
        return self.predictor(decoded)


class BaselineNetwork(nn.Module):
    """Routed network in its plain form.

    Args:
        cells_per_layer: Number of scales in each layer after the source cell.
        channels: Channels at stride 4.
        operations: Operations of each cell, keys of `OPERATIONS`.
        classes: Number of classes.
        separable_stem: Whether the second and third convolution of the stem are depthwise-separable.
    """

    def __init__(
        self,
        *,
        cells_per_layer: Sequence[int],
        channels: int,
        operations: Sequence[str],
        classes: int,
        separable_stem: bool = True,
    ) -> None:
        super().__init__()
        self.backbone = Backbone(
            cells_per_layer=cells_per_layer, channels=channels, operations=operations, separable_stem=separable_stem
        )
        self.sem_seg_head = Head(channels, scales=cells_per_layer[-1], classes=classes)
        self.divisor = FINEST_STRIDE << (cells_per_layer[-1] - 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, classes, H, W) of normalized images (B, 3, H, W)."""
        height, width = images.shape[-2:]
        images = pad(images, (0, -width % self.divisor, 0, -height % self.divisor))
        logits = self.sem_seg_head(self.backbone(images))
        return interpolate(logits, scale_factor=4, mode="bilinear", align_corners=False)[..., :height, :width]

    def loss(self, images: Tensor, labels: Tensor, *, ignore_value: int) -> Tensor:
        """Return the cross entropy (0-d) of labels (B, H, W)."""
        return cross_entropy(self(images), labels, ignore_index=ignore_value)
