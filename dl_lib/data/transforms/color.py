"""Transforms that change what pixels look like, not where they are; labels stay as they are.

Photometric distortion follows SSD (Liu et al., arXiv 1512.02325, section 2.2 and its published data layer): brightness,
contrast, saturation and hue are changed with probability 0.5 each, and contrast comes before or after the colours by
lot. Values that leave 0..255 stop at its ends.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

__all__ = ["ColorShift", "GaussianBlur", "PhotometricDistortion", "RandomBlur"]

_PROBABILITY = 0.5
_VALUES = np.arange(256, dtype=np.float64)


class _Appearance:
    """What holds for all transforms of this file."""

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        return size

    def apply_label(self, label: np.ndarray) -> np.ndarray:
        return label


@dataclass(frozen=True)
class ColorShift(_Appearance):
    """Brightness, contrast (or contrast at the end), saturation and hue, in this order; by default nothing happens.

    Args:
        brightness: added to each value.
        contrast: factor of each value.
        contrast_last: whether contrast comes after saturation and hue.
        saturation: factor of the S of HSV.
        hue_degrees: added to its H, on a circle of 360.
    """

    brightness: float = 0.0
    contrast: float = 1.0
    contrast_last: bool = False
    saturation: float = 1.0
    hue_degrees: float = 0.0

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        brightened = np.clip(_VALUES + self.brightness, 0, 255)
        image = _look_up(image, brightened if self.contrast_last else brightened * self.contrast)
        if self.saturation != 1 or self.hue_degrees != 0:
            image = self._shift_colors(image)
        return _look_up(image, _VALUES * self.contrast) if self.contrast_last else image

    def _shift_colors(self, image: np.ndarray) -> np.ndarray:
        turned = np.rint(_VALUES + self.hue_degrees * 256 / 360) % 256  # opencv's full circle is 256 steps
        tables = np.stack([turned, _rounded(_VALUES * self.saturation), _VALUES], axis=-1)
        hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL), tables.astype(np.uint8)[None])
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


@dataclass(frozen=True)
class GaussianBlur(_Appearance):
    """A Gaussian of so many pixels' standard deviation; the image is mirrored at its edges."""

    sigma_px: float

    def apply_image(self, image: np.ndarray) -> np.ndarray:
        return cv2.GaussianBlur(image, (0, 0), self.sigma_px) if self.sigma_px > 0 else image


@dataclass(frozen=True)
class PhotometricDistortion:
    """Draws a ColorShift; each of the four happens with probability 0.5, by an amount drawn uniformly.

    Args:
        brightness: added or taken away, at most, 0..255.
        contrast: the factor lies in 1 -+ this, 0..1.
        saturation: likewise.
        hue_degrees: to either side, at most, 0..180.

    Raises:
        ValueError: if one is out of its range.
    """

    brightness: float = 32.0
    contrast: float = 0.5
    saturation: float = 0.5
    hue_degrees: float = 18.0

    def __post_init__(self) -> None:
        limits = {"brightness": 255, "contrast": 1, "saturation": 1, "hue_degrees": 180}
        for name, limit in limits.items():
            if not 0 <= getattr(self, name) <= limit:
                raise ValueError(f"{name} lies in 0..{limit}. Received: {name}={getattr(self, name)}")

    def get_transform(self, rng: np.random.Generator, *, size: tuple[int, int]) -> ColorShift:
        return ColorShift(
            brightness=_perhaps(rng, self.brightness),
            contrast=1 + _perhaps(rng, self.contrast),
            contrast_last=bool(rng.random() < _PROBABILITY),
            saturation=1 + _perhaps(rng, self.saturation),
            hue_degrees=_perhaps(rng, self.hue_degrees),
        )


@dataclass(frozen=True)
class RandomBlur:
    """Draws a blur with a probability.

    Args:
        probability: of any blur.
        sigmas_px: (lowest, highest), drawn uniformly.

    Raises:
        ValueError: if this is no probability, or no range of positive numbers.
    """

    probability: float
    sigmas_px: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1 or not 0 < self.sigmas_px[0] <= self.sigmas_px[1]:
            raise ValueError(
                "a probability lies in 0..1, and sigmas are (lowest, highest), both positive. "
                f"Received: probability={self.probability}, sigmas_px={self.sigmas_px}"
            )

    def get_transform(self, rng: np.random.Generator, *, size: tuple[int, int]) -> GaussianBlur:
        sigma = float(rng.uniform(*self.sigmas_px))
        return GaussianBlur(sigma if rng.random() < self.probability else 0.0)


def _perhaps(rng: np.random.Generator, most: float) -> float:
    """An amount in -+most, or 0 with probability 0.5; takes two draws either way."""
    amount = float(rng.uniform(-most, most))
    return amount if rng.random() < _PROBABILITY else 0.0


def _rounded(values: np.ndarray) -> np.ndarray:
    return np.rint(values).clip(0, 255)


def _look_up(image: np.ndarray, values: np.ndarray) -> np.ndarray:
    return cv2.LUT(image, _rounded(values).astype(np.uint8))
