"""Models for deployment: copies of trained models that run faster."""

from dl_lib.inference.folding import fold_batch_norms
from dl_lib.inference.optimization import optimize

__all__ = ["fold_batch_norms", "optimize"]
