"""Reasons other than damage for which a data file cannot be decoded."""

from __future__ import annotations

import os

from PIL import Image, PngImagePlugin

__all__ = ["describe_limit", "describe_stand_in"]

_OPENCV_DEFAULTS = {"PIXELS": 2**30, "WIDTH": 2**20, "HEIGHT": 2**20}
_OUT_OF_MEMORY = ("Insufficient memory", "Failed to allocate", "OutOfMemory")

_STAND_INS = (  # description and fix, and the first bytes
    ("is a pointer of Git LFS; run `git lfs pull` to get the file itself", b"version https://git-lfs"),
    ("is a pointer of git-annex; run `git annex get` to get the file itself", b"/annex/objects/"),
    ("is a gzip archive; extract it", b"\x1f\x8b"),
    ("is a zip archive; extract it", b"PK\x03\x04"),
    ("is a web page or XML document, such as a login or error page; download the file again", b"<"),
)


def describe_stand_in(data: bytes) -> str | None:
    """Return a predicate and fix for content that stands in for a binary data file, None for all other content.

    Args:
        data: Content of the file, or its first bytes.
    """
    start = data[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((description for description, prefix in _STAND_INS if start.startswith(prefix)), None)


def describe_limit(received: object) -> str | None:
    """Return a predicate and fix if the error of a decoder is about one of its safety limits or memory, else None."""
    text = str(received)
    if isinstance(received, Image.DecompressionBombError):
        return (
            f"has more pixels than Pillow decodes, {2 * (Image.MAX_IMAGE_PIXELS or 0)} (2 x "
            "PIL.Image.MAX_IMAGE_PIXELS, a protection against decompression bombs); split it into tiles or, if you "
            "trust its source, set PIL.Image.MAX_IMAGE_PIXELS to a larger integer in net.py"
        )
    for name in ("MAX_TEXT_CHUNK", "MAX_TEXT_MEMORY"):
        if name in text:
            return (
                f"has more text or a larger color profile than Pillow reads, {getattr(PngImagePlugin, name)} bytes "
                f"(PIL.PngImagePlugin.{name}); save it without metadata or, if you trust its source, set this limit to "
                "a larger number in net.py"
            )
    for name, default in _OPENCV_DEFAULTS.items():
        variable = f"OPENCV_IO_MAX_IMAGE_{name}"
        if f"CV_IO_MAX_IMAGE_{name}" in text:
            return (
                f"is larger than OpenCV decodes, {os.environ.get(variable, default)} ({variable}); split it into tiles "
                f"or, if you trust its source, set the environment variable {variable} to a larger integer"
            )
    if isinstance(received, MemoryError) or any(sign in text for sign in _OUT_OF_MEMORY):
        return "does not fit into memory; split it into tiles or use a machine with more memory"
    return None
