"""Argument types for argparse: each converts the text of one argument or rejects it."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from pathlib import Path

from dl_lib.config import ConfigError
from dl_lib.config.errors import shortened
from dl_lib.config.paths import expand_path
from dl_lib.visualization import FIGURE_SUFFIXES

__all__ = [
    "at_least_ten",
    "comma_separated",
    "comma_separated_ints",
    "comma_separated_ratios",
    "comma_separated_sizes",
    "figure_path",
    "image_size",
    "int_between",
    "local_path",
    "non_negative_int",
    "positive_float",
    "positive_int",
    "ratio",
    "user_path",
    "worker_count",
]

_MAX_DIGITS = 18


def user_path(text: str) -> Path:
    """Return the path of a file or folder, with `~` and variables expanded."""
    try:
        return Path(expand_path(text, key="path"))
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def local_path(text: str) -> Path:
    """Return the path of an output file or folder."""
    if "://" in text:
        raise argparse.ArgumentTypeError(f"must be a local path, without a scheme. Received: {text}")
    return user_path(text)


def figure_path(text: str) -> Path:
    """Return the path of a figure file."""
    path = local_path(text)
    if path.suffix.lower() not in FIGURE_SUFFIXES:
        raise argparse.ArgumentTypeError(f"must end in one of {', '.join(FIGURE_SUFFIXES)}. Received: {text}")
    return path


def int_between(low: int, high: int) -> Callable[[str], int]:
    """Return a type that accepts decimal integers in [low, high]."""

    def convert(text: str) -> int:
        if not (text.isdecimal() and len(text) <= _MAX_DIGITS and low <= int(text) <= high):
            raise argparse.ArgumentTypeError(f"must be an integer in [{low}, {high}]. Received: {shortened(text)}")
        return int(text)

    return convert


non_negative_int, positive_int, at_least_ten = (int_between(low, 1_000_000) for low in (0, 1, 10))
worker_count = int_between(0, 1024)


def positive_float(text: str) -> float:
    """Return a finite number greater than 0."""
    value = _float_or_nan(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be a finite number greater than 0. Received: {text}")
    return value


def ratio(text: str) -> float:
    """Return a number in [0, 1)."""
    value = _float_or_nan(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be a number in [0, 1). Received: {text}")
    return value


def comma_separated(text: str) -> list[str]:
    """Return the items of a comma-separated list."""
    return [item.strip() for item in text.split(",")]


def comma_separated_ints(text: str) -> list[int]:
    """Return the items of a comma-separated list of integers of at least 0."""
    items = comma_separated(text)
    if not all(item.isdecimal() and len(item) <= _MAX_DIGITS for item in items):
        raise argparse.ArgumentTypeError(f"must be integers of at least 0, such as 0,1,2. Received: {shortened(text)}")
    return [int(item) for item in items]


def comma_separated_ratios(text: str) -> list[float]:
    """Return the items of a comma-separated list of numbers in [0, 1)."""
    return [ratio(item) for item in comma_separated(text)]


def comma_separated_sizes(text: str) -> list[tuple[int, int]]:
    """Return the items of a comma-separated list of sizes as (height, width) in pixels."""
    sizes = [_size(item) for item in comma_separated(text)]
    if not all(sizes):
        raise argparse.ArgumentTypeError(
            f"must be sizes HEIGHTxWIDTH of up to 99999 pixels, such as 512x1024,64x128. Received: {shortened(text)}"
        )
    return [size for size in sizes if size]


def image_size(text: str) -> tuple[int, int]:
    """Return a size as (height, width) in pixels."""
    size = _size(text)
    if size is None:
        raise argparse.ArgumentTypeError(
            f"must be a size HEIGHTxWIDTH of up to 99999 pixels, such as 512x1024. Received: {shortened(text)}"
        )
    return size


def _size(text: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    return (int(match[1]), int(match[2])) if match else None


def _float_or_nan(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
