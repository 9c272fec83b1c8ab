"""Files and colors inside a page."""

from __future__ import annotations

import base64
from collections.abc import Iterable

__all__ = ["css_color", "data_uri"]


def data_uri(content: bytes, *, media_type: str) -> str:
    """Return the address of a file that the page contains."""
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def css_color(color: Iterable[int]) -> str:
    """Return (red, green, blue), 0..255, as a color of CSS."""
    return f"#{bytes(color).hex()}"
