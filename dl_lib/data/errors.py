"""Data errors that the user can correct; the commands report them without a traceback."""

from __future__ import annotations

__all__ = [
    "ColorLabelError",
    "DataError",
    "InvalidSampleError",
    "MissingDataError",
    "UnknownDatasetError",
    "UnknownLabelError",
    "UnlabelledDatasetError",
    "UnreadableFileError",
]


class DataError(ValueError):
    """Unusable data; base class of all errors of `dl_lib.data`."""


class UnknownDatasetError(DataError, KeyError):
    """Dataset name that is not registered."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would print the repr of the message, in quotes


class MissingDataError(DataError):
    """Missing folder or file of a dataset."""


class UnlabelledDatasetError(DataError):
    """Dataset with ground truth, all of whose pixels are ignored."""


class UnreadableFileError(DataError):
    """Existing file that cannot be decoded."""


class ColorLabelError(UnreadableFileError):
    """Label file with colors where ids are expected."""


class InvalidSampleError(DataError):
    """Sample that was decoded but is inconsistent, for example in its sizes."""


class UnknownLabelError(InvalidSampleError):
    """Label map with values that are neither a class id nor the ignore index."""
