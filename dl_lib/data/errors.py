"""What can be wrong with data, and is the user's to mend: one family, which the commands report without a traceback."""

from __future__ import annotations

__all__ = ["DataError", "InvalidSampleError", "MissingDataError", "UnknownDatasetError", "UnreadableFileError"]


class DataError(ValueError):
    """Data that cannot be used as it is; the message names it."""


class UnknownDatasetError(DataError, KeyError):
    """A name that nothing is registered under; says which names come near it."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would print the quoted repr of the message


class MissingDataError(DataError):
    """Folders, files or partners of files that a data set needs and that are not there."""


class UnreadableFileError(DataError):
    """A file that is there and cannot be read as what it should be."""


class InvalidSampleError(DataError):
    """A sample that was read and does not fit: its sizes, or a label that is no class."""
