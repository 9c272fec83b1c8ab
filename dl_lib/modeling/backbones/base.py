"""Base class of static backbones, and the names of their features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from dl_lib.config import ConfigError
from dl_lib.layers import ShapeSpec
from dl_lib.modeling.activation_checkpointing import checkpointed
from dl_lib.utils.names import nearest_names

__all__ = ["FEATURES", "OUTPUT_STRIDES", "Backbone", "feature_stride"]

FEATURES = ("c1", "c2", "c3", "c4", "c5")  # the last feature map at each stride (arXiv 1612.03144, section 3)
OUTPUT_STRIDES = (8, 16, 32)  # choices for c5; below 32, dilation replaces the last strides


def feature_stride(name: str, *, output_stride: int) -> int:
    """Return the stride of a feature: 2**k for ck, at most `output_stride`."""
    return min(2 ** (FEATURES.index(name) + 1), output_stride)


class Backbone(nn.Module, ABC):
    """Static backbone from images (B, 3, H, W) of any size to feature maps.

    Subclasses run each block through `run_block`, which recomputes the block's activations in the backward pass if
    `activation_checkpointing` is set.

    Args:
        output_shapes: Shape of each feature by name, finest first. Where a stride does not divide a side, the size of
            the feature map is rounded up.
        stages: Names of the submodules that compute each feature from the previous one, by feature name. The last
            stages may be missing when `forward` runs, see `truncate`.
    """

    def __init__(self, output_shapes: Mapping[str, ShapeSpec], *, stages: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.output_shapes = dict(output_shapes)
        self.activation_checkpointing = False
        self._stages = {name: tuple(modules) for name, modules in stages.items()}

    @abstractmethod
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the feature maps by name, finest first."""

    def run_block(self, block: nn.Module, x: Tensor) -> Tensor:
        """Return the output of a block for feature maps (B, C, H, W)."""
        if not (self.activation_checkpointing and torch.is_grad_enabled()):
            return block(x)
        is_leaf = not list(block.children())  # checkpointing a leaf saves no memory, and the leaf may work in place
        return block(x) if is_leaf else checkpointed(block, x, modules=[block])

    @property
    def size_divisor(self) -> int:
        """Divisor of image sides at which the feature maps of all strides are aligned."""
        return max(shape.stride for shape in self.output_shapes.values())

    def truncate(self, features: Collection[str]) -> None:
        """Delete the stages after the last of these features, which would cost time and receive no gradients.

        Raises:
            ConfigError: If a feature does not exist.
        """
        for name in features:
            self._check_stage(name)
        names = list(self._stages)
        for name in names[1 + max(map(names.index, features)) :]:
            del self.output_shapes[name]
            for path in self._stages.pop(name):
                parent, _, child = path.rpartition(".")
                del self.get_submodule(parent)._modules[child]

    def freeze(self, stages: Sequence[str]) -> None:
        """Freeze the parameters of stages and the running statistics of their batch norms.

        Batch norms are replaced by `FrozenBatchNorm2d`, whose state-dict keys are the same.

        Raises:
            ConfigError: If a stage does not exist.
        """
        for stage in stages:
            for name, module in list(self.stage(stage)):
                for parameter in module.parameters(recurse=False):
                    parameter.requires_grad = False
                if isinstance(module, nn.BatchNorm2d):
                    parent, _, child = name.rpartition(".")
                    setattr(self.get_submodule(parent), child, _frozen_copy(module))

    def stage(self, name: str) -> Iterator[tuple[str, nn.Module]]:
        """Yield the modules of a stage with their qualified names.

        Raises:
            ConfigError: If the stage does not exist.
        """
        self._check_stage(name)
        for prefix in self._stages[name]:
            yield from self.get_submodule(prefix).named_modules(prefix=prefix)

    def _check_stage(self, name: str) -> None:
        if name not in self._stages:
            raise ConfigError(
                f"{type(self).__name__} has no stage of this name; {nearest_names(name, self._stages)}. "
                f"Received: stage={name!r}"
            )


def _frozen_copy(norm: nn.BatchNorm2d) -> FrozenBatchNorm2d:
    frozen = FrozenBatchNorm2d(norm.num_features, eps=norm.eps)
    state = norm.state_dict()
    state.pop("num_batches_tracked", None)
    frozen.load_state_dict(state)
    return frozen.to(norm.weight.device)
