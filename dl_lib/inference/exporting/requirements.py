"""Optional libraries of exported files."""

from __future__ import annotations

import importlib
from typing import Any

from dl_lib.utils.extras import requires_extra

__all__ = ["import_extra", "import_onnx"]


def import_extra(name: str, *, extra: str) -> Any:
    """Return an optional module.

    Raises:
        MissingExtraError: If it is not installed.
    """
    with requires_extra(extra, feature="this file format", packages=name):
        module = importlib.import_module(name)
    return module


def import_onnx() -> Any:
    """Return the module `onnx`; raises MissingExtraError like `import_extra`."""
    return import_extra("onnx", extra="onnx")
