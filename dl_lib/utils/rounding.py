"""Rounding of sizes."""

__all__ = ["round_up"]


def round_up(value: int, multiple: int) -> int:
    """Return the smallest multiple that is not below an integer."""
    return -(-value // multiple) * multiple
