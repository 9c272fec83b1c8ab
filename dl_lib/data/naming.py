"""What a sample is called, without reading it."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, Protocol, runtime_checkable

from torch.utils.data import ConcatDataset, Subset

__all__ = ["NamesFiles", "sample_name"]


@runtime_checkable
class NamesFiles(Protocol):
    """A data set that knows where each of its samples comes from."""

    def file_name(self, index: int) -> str:
        """The `file_name` of a sample (see `RawSample`), without reading the sample."""
        ...


def sample_name(dataset: Any, index: int) -> str:
    """The sample's file, where its data set can tell, else its number there and the data set's class.

    Args:
        dataset: of raw samples, or several of them put together, or a part of one.
        index: of the sample.
    """
    if isinstance(dataset, ConcatDataset):
        position = bisect_right(dataset.cumulative_sizes, index)
        before = dataset.cumulative_sizes[position - 1] if position else 0
        return sample_name(dataset.datasets[position], index - before)
    if isinstance(dataset, Subset):
        return sample_name(dataset.dataset, int(dataset.indices[index]))
    if isinstance(dataset, NamesFiles):
        return dataset.file_name(index)
    return f"number {index} of {type(dataset).__name__}"
