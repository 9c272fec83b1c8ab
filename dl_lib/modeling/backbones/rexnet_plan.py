"""Channels, strides and dilations of ReXNet and ReXNet-lite, as values.

Source: arXiv 2007.00992, section 4: the channels grow from block to block by equal steps. Where the paper leaves room
(rounding, depth and width multipliers, the lite form), the network follows the public implementation
(github.com/clovaai/rexnet), whose weights it loads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from dl_lib.modeling.backbones.base import FEATURES

__all__ = ["EXPANSION", "SQUEEZE", "STEM_STRIDE", "BlockPlan", "ReXNetPlan", "plan_rexnet"]

STAGE_BLOCKS = (1, 2, 2, 3, 3, 5)
STAGE_STRIDES = (1, 2, 2, 2, 1, 2)
STAGE_SQUEEZES = (False, False, True, True, True, True)
EXPANSION, FIRST_EXPANSION = 6, 1
SQUEEZE = 12  # channels inside a block for each of its squeeze-and-excitation
STEM_CHANNELS, FIRST_CHANNELS, LAST_CHANNELS = 32, 16, 180  # of width 1
PENULTIMATE_CHANNELS = 1280
LITE_DIVISOR = 8
STEM_STRIDE = 2


@dataclass(frozen=True)
class BlockPlan:
    """An inverted bottleneck.

    Attributes:
        in_channels: of the map that comes in.
        expanded: channels inside; where they are `in_channels`, there is no expansion.
        out_channels: of the map that goes out.
        stride: of the depthwise convolution.
        dilation: of it.
        squeezed: channels inside squeeze-and-excitation; 0 for none.
        adds_input: whether the input is added to the first `in_channels` channels of the output.
    """

    in_channels: int
    expanded: int
    out_channels: int
    stride: int = 1
    dilation: int = 1
    squeezed: int = 0
    adds_input: bool = False


@dataclass(frozen=True)
class ReXNetPlan:
    """A whole network.

    Attributes:
        stem: channels of the first convolution, at stride 2.
        blocks: one after the other.
        last_blocks: by the name of a feature, the position of the block that gives it out.
        penultimate: channels before the classifier.
        lite: without squeeze-and-excitation, and with ReLU6 in the place of SiLU.
    """

    stem: int
    blocks: tuple[BlockPlan, ...]
    last_blocks: Mapping[str, int]
    penultimate: int
    lite: bool


def plan_rexnet(*, width: float = 1.0, depth: float = 1.0, lite: bool = False, output_stride: int = 32) -> ReXNetPlan:
    """The network of a width and a depth.

    Args:
        width: factor of the channels; weights are published for 1.0, 1.3, 1.5, 2.0 and, not lite, 3.0.
        depth: factor of the number of blocks in each stage, which is rounded up.
        lite: ReXNet-lite.
        output_stride: 32, or 16 or 8 with dilations in the place of the last strides.
    """
    raw_stem = width * max(STEM_CHANNELS, STEM_CHANNELS / width)
    stem = _rounded(raw_stem, lite=lite)
    steps = _steps(depth, lite=lite)
    channels = [stem, *_growing(len(steps), width=width, lite=lite)]
    stride, dilation, blocks = STEM_STRIDE, 1, []
    for step, (before, after) in zip(steps, pairwise(channels), strict=True):
        # Where dilation takes the place of a stride, the block that had the stride keeps the dilation before it.
        dilated = step.stride if stride * step.stride > output_stride else 1
        stride *= step.stride // dilated
        expanded = step.expansion * before
        blocks.append(
            BlockPlan(
                in_channels=before,
                expanded=expanded,
                out_channels=after,
                stride=step.stride // dilated,
                dilation=dilation,
                squeezed=expanded // SQUEEZE if step.squeezes else 0,
                adds_input=step.stride == 1 and before <= after,
            )
        )
        dilation *= dilated
    return ReXNetPlan(
        stem=stem,
        blocks=tuple(blocks),
        last_blocks=_last_blocks([step.stride for step in steps]),
        penultimate=int(PENULTIMATE_CHANNELS * (max(1.0, width) if lite else width)),
        lite=lite,
    )


@dataclass(frozen=True)
class _Step:
    stride: int
    expansion: int
    squeezes: bool


def _steps(depth: float, *, lite: bool) -> list[_Step]:
    """What a block is by its place: the first of a stage has the stage's stride."""
    return [
        _Step(stride if first else 1, FIRST_EXPANSION if number == 0 else EXPANSION, squeezes and not lite)
        for number, (count, stride, squeezes) in enumerate(
            zip(STAGE_BLOCKS, STAGE_STRIDES, STAGE_SQUEEZES, strict=True)
        )
        for first in [True] + [False] * (math.ceil(count * depth) - 1)
    ]


def _growing(count: int, *, width: float, lite: bool) -> list[int]:
    """Channels after each of so many blocks; the lite form ends at LAST_CHANNELS, the other a step before them."""
    first = max(FIRST_CHANNELS, FIRST_CHANNELS / width)
    growth = (LAST_CHANNELS - FIRST_CHANNELS) / (count - 1) if lite else LAST_CHANNELS / count
    return [_rounded((first + i * growth) * width, lite=lite) for i in range(count)]


def _rounded(channels: float, *, lite: bool) -> int:
    """Python's rounding, half to even, which the published widths follow from; lite: also to a multiple of 8.

    The latter as in MobileNet: not more than a tenth below.
    """
    whole = round(channels)
    if not lite:
        return whole
    multiple = max(LITE_DIVISOR, (whole + LITE_DIVISOR // 2) // LITE_DIVISOR * LITE_DIVISOR)
    return multiple if multiple >= 0.9 * whole else multiple + LITE_DIVISOR


def _last_blocks(strides: list[int]) -> dict[str, int]:
    """Positions of the last blocks at each of the five strides, by the features' names."""
    before = [position - 1 for position, stride in enumerate(strides) if stride > 1]
    return dict(zip(FEATURES, [*before, len(strides) - 1], strict=True))
