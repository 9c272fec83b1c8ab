"""Types of words on command lines, for argparse."""

from __future__ import annotations

import argparse
import re

__all__ = ["list_of_numbers", "list_of_sizes", "list_of_words", "not_negative", "positive"]


def positive(word: str) -> int:
    """A whole number from 1."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1. Received: {word}")
    return int(word)


def not_negative(word: str) -> int:
    """A whole number from 0."""
    if not word.isdecimal():
        raise argparse.ArgumentTypeError(f"expected a whole number from 0. Received: {word}")
    return int(word)


def list_of_words(text: str) -> list[str]:
    """What stands between commas."""
    return [word.strip() for word in text.split(",")]


def list_of_numbers(text: str) -> list[int]:
    """Whole numbers from 0."""
    words = list_of_words(text)
    if not all(word.isdecimal() for word in words):
        raise argparse.ArgumentTypeError(f"expected whole numbers from 0, such as 0,1,2. Received: {text}")
    return [int(word) for word in words]


def list_of_sizes(text: str) -> list[tuple[int, int]]:
    """(height, width) in pixels."""
    matches = [re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", word) for word in list_of_words(text)]
    if not all(matches):
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH in pixels, such as 512x1024,64x128. Received: {text}")
    return [(int(match[1]), int(match[2])) for match in matches if match]
