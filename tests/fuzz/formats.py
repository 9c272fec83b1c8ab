"""All formats under test, by name."""

from tests.fuzz import data_formats, evaluation_formats, run_formats  # noqa: F401  they register their formats
from tests.fuzz.registry import FORMATS, USER_ERRORS, Content

__all__ = ["FORMATS", "USER_ERRORS", "Content"]
