"""Sample images for the verification of exported files."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from dl_lib.data.transforms.resize import Resize
from dl_lib.utils.rounding import round_up

__all__ = ["fitted_images"]

_NUM_GENERATED = 4
_COARSENESS = 16  # pixels between the random values of generated images


def fitted_images(images: Sequence[Tensor], size: tuple[int, int], *, larger: int | None) -> list[Tensor]:
    """Return the images at a size, and optionally at a larger one as well.

    Args:
        images: Images (3, H, W), uint8; without any, images are generated.
        size: Height and width in pixels.
        larger: Divisor of padded sides: the larger size is one pixel below the second multiple from `size` on, so
            that it requires padding. None for no larger size.
    """
    images = images or _generated(size)
    sizes = [size]
    if larger is not None:
        height, width = (round_up(side, larger) + larger - 1 for side in size)
        sizes.append((height, width))
    return [_resized(image, target) for target in sizes for image in images]


def _generated(size: tuple[int, int]) -> list[Tensor]:
    """Return smooth random images with some noise, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    rows, columns = (-(-side // _COARSENESS) + 1 for side in size)
    coarse = torch.rand(_NUM_GENERATED, 3, rows, columns, generator=generator)
    smooth = interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    noise = torch.rand(smooth.shape, generator=generator)
    return [*(255 * (0.9 * smooth + 0.1 * noise)).byte()]


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(image.shape[-2:]) == size:
        return image
    return torch.from_numpy(Resize(*size).apply_image(image.permute(1, 2, 0).contiguous().numpy())).permute(2, 0, 1)
