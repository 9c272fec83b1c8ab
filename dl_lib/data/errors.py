"""Data errors that the user can correct; the commands report them without a traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dl_lib.utils import comm

__all__ = [
    "ColorLabelError",
    "DataError",
    "InvalidSampleError",
    "MissingDataError",
    "UnknownDatasetError",
    "UnknownLabelError",
    "UnlabelledDatasetError",
    "UnreadableFileError",
    "data_errors_shared",
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
    """Label file with colors or scaled gray values where ids are expected."""


class InvalidSampleError(DataError):
    """Sample that was decoded but is inconsistent, for example in its sizes."""


class UnknownLabelError(InvalidSampleError):
    """Label map with values that are neither a class id nor the ignore index."""


@contextmanager
def data_errors_shared() -> Iterator[None]:
    """Context manager that raises a `DataError` of one process in every process, at the end; a collective.

    Without it, the other processes would wait for the one that handles the error.
    """
    own: DataError | None = None
    try:
        yield
    except DataError as error:
        own = error
    messages = comm.all_gather(None if own is None else str(own))
    if own is not None:
        raise own
    for message in messages:
        if message is not None:
            raise DataError(message)
