"""All config keys, each declared once; `add_keys` adds those of an experiment."""

from __future__ import annotations

from dl_lib.config.data_keys import DATA_KEYS
from dl_lib.config.evaluation_keys import EVALUATION_KEYS
from dl_lib.config.key import ConfigKey
from dl_lib.config.model_keys import MODEL_KEYS
from dl_lib.config.solver_keys import SOLVER_KEYS

__all__ = ["KEYS"]

KEYS: dict[str, ConfigKey] = {key.name: key for key in (*MODEL_KEYS, *DATA_KEYS, *SOLVER_KEYS, *EVALUATION_KEYS)}
