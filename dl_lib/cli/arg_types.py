"""Types of words on command lines, for argparse."""

from __future__ import annotations

import argparse
import math
import re

__all__ = [
    "at_least_ten",
    "comma_separated",
    "comma_separated_ints",
    "comma_separated_sizes",
    "non_negative_int",
    "positive_float",
    "positive_int",
    "ratio",
]


def positive_int(word: str) -> int:
    """A whole number from 1."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1. Received: {word}")
    return int(word)


def non_negative_int(word: str) -> int:
    """A whole number from 0."""
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0. Received: {word}")
    return int(word)


def at_least_ten(word: str) -> int:
    """A whole number from 10."""
    if not word.isdecimal() or int(word) < 10:
        raise argparse.ArgumentTypeError(f"expected a whole number from 10. Received: {word}")
    return int(word)


def positive_float(word: str) -> float:
    """A finite number above 0."""
    value = _number(word)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number above 0. Received: {word}")
    return value


def ratio(word: str) -> float:
    """A number in [0, 1)."""
    value = _number(word)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"expected a number in [0, 1). Received: {word}")
    return value


def comma_separated(text: str) -> list[str]:
    """What stands between commas."""
    return [word.strip() for word in text.split(",")]


def comma_separated_ints(text: str) -> list[int]:
    """Whole numbers from 0."""
    words = comma_separated(text)
    if not all(word.isdecimal() for word in words):
        raise argparse.ArgumentTypeError(f"expected whole numbers from 0, such as 0,1,2. Received: {text}")
    return [int(word) for word in words]


def comma_separated_sizes(text: str) -> list[tuple[int, int]]:
    """(height, width) in pixels."""
    matches = [re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", word) for word in comma_separated(text)]
    if not all(matches):
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH in pixels, such as 512x1024,64x128. Received: {text}")
    return [(int(match[1]), int(match[2])) for match in matches if match]


def _number(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        return math.nan
