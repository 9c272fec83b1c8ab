"""Color transforms: photometric distortion and blur. Labels are unchanged.

Photometric distortion follows SSD (Liu et al., arXiv 1512.02325, section 2.2 and its released data layer): brightness,
contrast, saturation and hue are each changed with probability 0.5, and contrast is applied either before or after
saturation and hue at random. Values are clipped to 0..255.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

__all__ = ["ColorShift", "GaussianBlur", "PhotometricDistortion", "RandomBlur"]

_PROBABILITY = 0.5
_VALUES = np.arange(256, dtype=np.float64)


class _ColorTransform:
    """Base class of transforms that keep size and label."""

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return size

    def apply_label(self, label: np.ndarray) -> np.ndarray:
        return label


@dataclass(frozen=True)
class ColorShift(_ColorTransform):
    """Change of brightness, contrast, saturation and hue, in this order. The defaults change nothing.

    Args:
        brightness: Offset of the pixel values.
        contrast: Factor of the pixel values.
        contrast_last: Whether contrast is applied after saturation and hue.
        saturation: Factor of the saturation (S of HSV).
        hue_degrees: Offset of the hue (H of HSV), modulo 360.
    """

    brightness: float = 0.0
    contrast: float = 1.0
    contrast_last: bool = False
    saturation: float = 1.0
    hue_degrees: float = 0.0

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        brightened = np.clip(_VALUES + self.brightness, 0, 255)
        image = _apply_table(image, brightened if self.contrast_last else brightened * self.contrast)
        if self.saturation != 1 or self.hue_degrees != 0:
            image = self._shift_hsv(image)
        return _apply_table(image, _VALUES * self.contrast) if self.contrast_last else image

    def _shift_hsv(self, image: np.ndarray) -> np.ndarray:
        hue = np.rint(_VALUES + self.hue_degrees * 256 / 360) % 256  # OpenCV's full-range hue has 256 steps
        tables = np.stack([hue, _rounded(_VALUES * self.saturation), _VALUES], axis=-1)
        hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL), tables.astype(np.uint8)[None])
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


@dataclass(frozen=True)
class GaussianBlur(_ColorTransform):
    """Gaussian blur with reflected borders."""

    sigma_px: float  # standard deviation; 0 leaves the image unchanged

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(image, (0, 0), self.sigma_px) if self.sigma_px > 0 else image


@dataclass(frozen=True)
class PhotometricDistortion:
    """Random `ColorShift`: each of the four changes has probability 0.5 and a uniformly distributed amount.

    Args:
        brightness: Maximum absolute offset, 0..255.
        contrast: Maximum deviation of the factor from 1, 0..1.
        saturation: Maximum deviation of the factor from 1, 0..1.
        hue_degrees: Maximum absolute offset, 0..180.

    Raises:
        ValueError: If an argument is out of range.
    """

    brightness: float = 32.0
    contrast: float = 0.5
    saturation: float = 0.5
    hue_degrees: float = 18.0

    def __post_init__(self) -> None:
        limits = {"brightness": 255, "contrast": 1, "saturation": 1, "hue_degrees": 180}
        for name, limit in limits.items():
            if not 0 <= getattr(self, name) <= limit:
                raise ValueError(f"{name} must be in 0..{limit}. Received: {name}={getattr(self, name)}")

    def get_transform(self, rng: np.random.Generator, *, size: tuple[int, int]) -> ColorShift:
        return ColorShift(
            brightness=_sample_amount(rng, self.brightness),
            contrast=1 + _sample_amount(rng, self.contrast),
            contrast_last=bool(rng.random() < _PROBABILITY),
            saturation=1 + _sample_amount(rng, self.saturation),
            hue_degrees=_sample_amount(rng, self.hue_degrees),
        )


@dataclass(frozen=True)
class RandomBlur:
    """Random `GaussianBlur` with a given probability.

    Args:
        probability: Probability of a blur.
        sigmas_px: (lowest, highest) standard deviation, uniformly distributed.

    Raises:
        ValueError: If the probability is not in 0..1, or the standard deviations are not a range of positive numbers.
    """

    probability: float
    sigmas_px: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1 or not 0 < self.sigmas_px[0] <= self.sigmas_px[1]:
            raise ValueError(
                "probability must be in 0..1, and sigmas_px must be (lowest, highest) with 0 < lowest <= highest. "
                f"Received: probability={self.probability}, sigmas_px={self.sigmas_px}"
            )

    def get_transform(self, rng: np.random.Generator, *, size: tuple[int, int]) -> GaussianBlur:
        sigma = float(rng.uniform(*self.sigmas_px))
        return GaussianBlur(sigma if rng.random() < self.probability else 0.0)


def _sample_amount(rng: np.random.Generator, limit: float) -> float:
    """Return a uniform amount in -limit..limit, or 0 with probability 0.5; always draws two numbers."""
    amount = float(rng.uniform(-limit, limit))
    return amount if rng.random() < _PROBABILITY else 0.0


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 255)


def _apply_table(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    return cv2.LUT(image, _rounded(values).astype(np.uint8))
