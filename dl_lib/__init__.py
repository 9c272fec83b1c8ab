"""Training of semantic segmentation networks whose route through the network depends on the image."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dl_lib.prediction.predictor import Predictor

__all__ = ["Predictor", "__version__"]

__version__ = version("dl_lib")


def __getattr__(name: str) -> Any:
    """Import `Predictor` when it is first used: `import dl_lib` does not import torch."""
    if name == "Predictor":
        from dl_lib.prediction.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
