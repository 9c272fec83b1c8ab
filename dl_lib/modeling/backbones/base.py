"""What every static backbone promises, and the names of its features."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from dl_lib.config import ConfigError
from dl_lib.layers import ShapeSpec
from dl_lib.modeling.activation_checkpointing import checkpointed
from dl_lib.utils.names import nearest_names

__all__ = ["FEATURES", "OUTPUT_STRIDES", "Backbone", "feature_stride"]

FEATURES = ("c1", "c2", "c3", "c4", "c5")  # arXiv 1612.03144, section 3: the last maps at each stride
OUTPUT_STRIDES = (8, 16, 32)  # of c5: below 32, the last strides become dilations


def feature_stride(name: str, *, output_stride: int) -> int:
    """Pixels from one position of a feature to the next: ck halves the image's sides k times, or until it is enough."""
    return min(2 ** (FEATURES.index(name) + 1), output_stride)


class Backbone(nn.Module, ABC):
    """Images to features by a fixed route; called with images (B, 3, H, W) of any size.

    Subclasses run each block through `run_block`, which recomputes the block's activations in the backward pass if
    `activation_checkpointing` is set.

    Args:
        output_shapes: of each feature, by its name, finest first. On sides that a stride does not divide, maps have
            H / stride rounded up.
        stages: what makes each of the features from the one before, by the feature's name: names of submodules. The
            last of them may be missing when `forward` runs (see `shorten`).
    """

    def __init__(self, output_shapes: Mapping[str, ShapeSpec], *, stages: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.output_shapes = dict(output_shapes)
        self.activation_checkpointing = False
        self._stages = {name: tuple(modules) for name, modules in stages.items()}

    @abstractmethod
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The features by their names, finest first."""

    def run_block(self, block: nn.Module, x: Tensor) -> Tensor:
        """A block's output for maps (B, C, H, W)."""
        if not (self.activation_checkpointing and torch.is_grad_enabled()):
            return block(x)
        is_leaf = not list(block.children())  # nothing of it would be saved, and it may work in place
        return block(x) if is_leaf else checkpointed(block, x, modules=[block])

    @property
    def size_divisor(self) -> int:
        """Sides that this divides give maps that lie upon one another."""
        return max(shape.stride for shape in self.output_shapes.values())

    def shorten(self, features: Collection[str]) -> None:
        """Leaves out what comes after the last of these features: it would cost time, and have no gradients.

        Args:
            features: those that something looks at; the ones before the last of them remain, too.

        Raises:
            ConfigError: if there is no such feature.
        """
        for name in features:
            self._check_stage(name)
        names = list(self._stages)
        for name in names[1 + max(map(names.index, features)) :]:
            del self.output_shapes[name]
            for path in self._stages.pop(name):
                parent, _, child = path.rpartition(".")
                del self.get_submodule(parent)._modules[child]

    def stage(self, name: str) -> Iterator[tuple[str, nn.Module]]:
        """All modules of a stage with their names in this backbone.

        Raises:
            ConfigError: if there is no such stage.
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
