"""Colours for label ids."""

from __future__ import annotations

__all__ = ["bit_palette"]


def bit_palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """As many colours as there are ids, each different up to 2^24 ids.

    The rule is that of PASCAL VOC's development kit: the id's bits go to red, green and blue in turn, lowest first,
    and each channel is filled from its highest bit downwards. (http://host.robots.ox.ac.uk/pascal/VOC/voc2012/)
    """
    return tuple((_channel(label), _channel(label >> 1), _channel(label >> 2)) for label in range(count))


def _channel(bits: int) -> int:
    """Every third bit of a number, from the lowest, as a channel's bits from the highest."""
    return sum((bits >> 3 * place & 1) << 7 - place for place in range(8))
