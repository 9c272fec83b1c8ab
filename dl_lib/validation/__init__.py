"""What is wrong with a configuration, against all that it speaks of; above the rest of the library but its commands."""

from dl_lib.validation.report import Purpose
from dl_lib.validation.validate import validate_config

__all__ = ["Purpose", "validate_config"]
