"""Optional libraries of exported files."""

from __future__ import annotations

import importlib
from typing import Any

from dl_lib.config import ConfigError

__all__ = ["import_extra", "import_onnx"]


def import_extra(name: str, *, extra: str) -> Any:
    """Return an optional module.

    Raises:
        ConfigError: If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"{name} is not installed; install it with pip install 'dl_lib[{extra}]'. Received: {error}"
        ) from error


def import_onnx() -> Any:
    """Return the module `onnx`; raises ConfigError like `import_extra`."""
    return import_extra("onnx", extra="onnx")
