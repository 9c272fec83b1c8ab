"""What can be wrong with data, and is the user's to mend: one family, which the commands report without a traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dl_lib.data.catalog import RawDataset
    from dl_lib.data.datasets.files import PairedFiles

__all__ = [
    "DataError",
    "InvalidSampleError",
    "MissingDataError",
    "UnknownDatasetError",
    "UnknownLabelError",
    "UnpairedFilesError",
    "UnreadableFileError",
]


class DataError(ValueError):
    """Data that cannot be used as it is; the message names it."""


class UnknownDatasetError(DataError, KeyError):
    """A name that nothing is registered under; says which names come near it."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would print the quoted repr of the message


class MissingDataError(DataError):
    """Folders, files or partners of files that a data set needs and that are not there."""


class UnpairedFilesError(MissingDataError):
    """Images without label or labels without image.

    Args:
        message: what the user is told.
        paired: everything that was found.
        usable: the data set of what has its partner, for those who want to look at it all the same.
    """

    def __init__(self, message: str, *, paired: PairedFiles, usable: RawDataset) -> None:
        super().__init__(message)
        self.paired = paired
        self.usable = usable


class UnreadableFileError(DataError):
    """A file that is there and cannot be read as what it should be."""


class InvalidSampleError(DataError):
    """A sample that was read and does not fit, such as in its sizes."""


class UnknownLabelError(InvalidSampleError):
    """A label that holds values which are neither a class nor the ignore value."""
