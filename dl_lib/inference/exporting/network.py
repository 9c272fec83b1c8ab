"""Networks to export: plain tensors in and out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from dl_lib.config import ConfigError
from dl_lib.inference.folding import fold_batch_norms
from dl_lib.inference.optimization import reduce_precision
from dl_lib.layers.mixed_conv import MixedConv2d
from dl_lib.modeling.costs.any_size import RealCost
from dl_lib.modeling.costs.costs import MADDS_PER_GFLOP
from dl_lib.modeling.dynamic.conditional_execution import run_conditional
from dl_lib.modeling.dynamic.network import DynamicNetwork
from dl_lib.modeling.meta_arch.base import SegmentationModel
from dl_lib.modeling.meta_arch.dynamic4seg import DynamicNet4Seg

__all__ = ["ExportedDynamicNetwork", "ExportedNetwork", "TracedNetwork"]


class TracedNetwork(nn.Module, ABC):
    """Network that `tracing.trace` accepts.

    Attributes:
        size_divisor: Divisor of the sides of images of any size.
    """

    size_divisor: int

    @property
    @abstractmethod
    def accepts_batches(self) -> bool:
        """True if the graph accepts any number of images."""

    @abstractmethod
    def example(self, size: tuple[int, int], *, num_images: int) -> Tensor:
        """Return images of a size (height, width) in pixels to trace the network with."""


class ExportedNetwork(TracedNetwork):
    """Network that executes all parts, whatever the values of its gates.

    Args:
        model: Model to export; it is copied to the CPU, and batch norms are folded.
        dtype: Dtype of weights and feature maps. Images and logits are float32, and so are the logits of gates.
    """

    output_names: tuple[str, ...] = ("logits",)

    def __init__(self, model: SegmentationModel, *, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        copied = fold_batch_norms(model).requires_grad_(False).to(device="cpu", dtype=torch.float32)
        copied.to(memory_format=torch.contiguous_format)  # torch.export.save warns about weights in other formats
        if dtype != torch.float32:
            reduce_precision(copied, dtype)
        self._dtype = dtype
        self.backbone, self.head = copied.backbone, copied.sem_seg_head
        self.size_divisor = copied.size_divisor
        if isinstance(self.backbone, DynamicNetwork):
            self.backbone.sparse = False

    @property
    def accepts_batches(self) -> bool:
        """True if the graph accepts any number of images.

        Kernels that are mixed for each image become one convolution with a group per image, and runtimes require a
        constant number of groups: such a graph is for one image.
        """
        return not any(isinstance(module, MixedConv2d) for module in self.modules())

    def example(self, size: tuple[int, int], *, num_images: int) -> Tensor:
        return torch.zeros(num_images, 3, *size)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return logits (N, classes, H, W) for normalized images (N, 3, H, W) in the channel order of the config."""
        features = self.backbone(self._padded(image).to(self._dtype))
        if isinstance(self.backbone, DynamicNetwork):
            features, _ = features
        return (self._logits(features, image),)

    def _padded(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        if isinstance(height, int) and isinstance(width, int):
            return pad(image, (0, -width % self.size_divisor, 0, -height % self.size_divisor))
        return image  # of a symbolic size, a multiple of the divisor

    def _logits(self, features: dict[str, Tensor], image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        logits: Tensor = self.head.to_input_size(self.head(features).float())
        return logits[..., :height, :width]


class ExportedDynamicNetwork(ExportedNetwork):
    """Routed network that decides for each image which parts run; one image at a time.

    Args:
        model: Model with learned gates.
        size: Height and width of the images in pixels; None for any size.

    Raises:
        ConfigError: If the images have any size, and the real cost is not known for it (`RealCost`).
    """

    output_names = ("logits", "gates", "real_gflops")

    def __init__(self, model: DynamicNet4Seg, *, size: tuple[int, int] | None) -> None:
        super().__init__(model)
        self._costs = _cost_of_any_size(model) if size is None else model.costs.table(*size)

    @property
    def accepts_batches(self) -> bool:
        """False, because a branch of the graph applies to a whole batch."""
        return False

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the results for a normalized image (1, 3, H, W).

        Returns:
            Logits (1, classes, H, W), gate values (edges,) and the real cost (0-d) in GFLOPs.
        """
        backbone = cast(DynamicNetwork, self.backbone)
        padded = self._padded(image)
        height, width = padded.shape[-2:]
        features, routing = run_conditional(backbone, backbone.stem(padded))
        logits = self._logits(dict(zip(backbone.output_shapes, features, strict=True)), image)
        if isinstance(self._costs, RealCost):
            madds = self._costs(routing, height=height, width=width)
        else:
            madds = self._costs.real(routing)
        return logits, routing.gates_BE[0], (madds[0] / MADDS_PER_GFLOP).to(torch.float32)


def _cost_of_any_size(model: DynamicNet4Seg) -> RealCost:
    try:
        return RealCost(model.backbone, model.costs)
    except ValueError as error:
        raise ConfigError(
            f"--dynamic-size (dynamic_size=True) needs a cost known for any size; choose a fixed --size: {error}"
        ) from error
