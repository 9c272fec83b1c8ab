"""All config keys, each declared once."""

from __future__ import annotations

from collections.abc import Mapping

from dl_lib.config.declarations.data import DATA_KEYS
from dl_lib.config.declarations.evaluation import EVALUATION_KEYS
from dl_lib.config.declarations.model import MODEL_KEYS
from dl_lib.config.declarations.solver import SOLVER_KEYS
from dl_lib.config.key import ConfigKey

__all__ = ["KEYS"]

KEYS: Mapping[str, ConfigKey] = {key.name: key for key in (*MODEL_KEYS, *DATA_KEYS, *SOLVER_KEYS, *EVALUATION_KEYS)}
