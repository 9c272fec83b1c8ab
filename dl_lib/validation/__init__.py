"""Validation of a whole configuration before anything is built.

Types, ranges and choices follow from the declarations in `dl_lib.config`; this package adds the rules between keys.
"""

from dl_lib.validation.report import Purpose
from dl_lib.validation.validate import validate_config

__all__ = ["Purpose", "validate_config"]
