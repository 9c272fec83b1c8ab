"""Loader that skips invalid samples (`DATALOADER.ON_ERROR`, `DATALOADER.MAX_SKIPPED`).

Worker processes do not communicate with each other. Each loaded sample therefore carries a record of the samples
skipped while loading it, and the process that consumes the samples counts the records.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Dataset

from dl_lib.data.errors import DataError
from dl_lib.data.label_watch import EpochWatch, LabelContent, label_content
from dl_lib.data.mapper import MappedDataset
from dl_lib.data.samplers import SampleKey
from dl_lib.data.workers import WorkerProgress

__all__ = ["LoadedSample", "OnError", "SampleLoader", "SkipInvalidSamples", "SkippedSample", "TooManySkippedError"]

OnError = Literal["raise", "replace", "drop"]

_log = logging.getLogger(__name__)


class TooManySkippedError(DataError):
    """More skipped samples than `DATALOADER.MAX_SKIPPED` allows."""


@dataclass(frozen=True)
class SkippedSample:
    """Invalid sample that was skipped."""

    index: int
    reason: str  # error message, which names the file


class LoadedSample(NamedTuple):
    """Mapped sample with its `index` in the dataset, and the samples that were skipped while loading it.

    A tuple rather than a dataclass, because torch's memory pinning recurses into tuples but not into dataclasses.
    """

    sample: dict[str, Any] | None  # None if it was dropped
    skipped: tuple[SkippedSample, ...] = ()
    content: LabelContent | None = None  # of its label, in the watched epoch


class SkipInvalidSamples(Dataset):
    """Mapped dataset with a policy for invalid samples.

    Args:
        dataset: Dataset whose `DataError`s are handled; all other errors are raised.
        on_error: Policy. `raise` the error; `replace` the sample by a random one, drawn from the sample's own random
            generator, so that the batch size is constant and independent of the worker; or `drop` the sample.
        max_skipped: Number of consecutive failed replacements after which an error is raised.
        progress: Progress of the workers that load the samples.
        watched_epoch: Epoch in which the content of the labels is recorded; None records none.
    """

    def __init__(
        self,
        dataset: MappedDataset,
        *,
        on_error: OnError,
        max_skipped: int,
        progress: WorkerProgress,
        watched_epoch: int | None = None,
    ) -> None:
        self.dataset = dataset
        self.on_error = on_error
        self.max_skipped = max_skipped
        self.progress = progress
        self.watched_epoch = watched_epoch

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey) -> LoadedSample:
        rng, is_watched = self.dataset.generator(key), key.epoch == self.watched_epoch
        if self.on_error == "replace":
            return self._load_or_replace(key.index, rng=rng, is_watched=is_watched)
        try:
            return self._load(key.index, rng=rng, is_watched=is_watched)
        except DataError as error:
            if self.on_error == "raise":
                raise
            return LoadedSample(None, (SkippedSample(key.index, str(error)),))

    def _load_or_replace(self, index: int, *, rng: np.random.Generator, is_watched: bool) -> LoadedSample:
        skipped: list[SkippedSample] = []
        while True:
            try:
                return self._load(index, rng=rng, is_watched=is_watched)._replace(skipped=tuple(skipped))
            except DataError as error:
                skipped.append(SkippedSample(index, str(error)))
                if len(skipped) > self.max_skipped:
                    raise _too_many_error(skipped, max_skipped=self.max_skipped) from error
                index = int(rng.integers(len(self)))

    def _load(self, index: int, *, rng: np.random.Generator, is_watched: bool) -> LoadedSample:
        with self.progress.loading(index):
            raw = self.dataset.dataset[index]
            mapped = {**self.dataset.mapper(raw, rng=rng), "index": index}
            content = label_content(self.dataset, raw, mapped, index=index) if is_watched else None
            return LoadedSample(mapped, content=content)


class SampleLoader:
    """Iterable over batches of valid samples that records the skipped samples.

    Args:
        loader: Loader of batches of `LoadedSample`.
        max_skipped: Largest accepted number of distinct skipped samples.
        watch: Record of the labels of one epoch; None records none.

    Attributes:
        loader: The given loader.
        skipped: Distinct skipped samples so far, in the order of their first occurrence.
    """

    def __init__(self, loader: DataLoader[LoadedSample], *, max_skipped: int, watch: EpochWatch | None = None) -> None:
        self.loader = loader
        self.watch = watch
        self.max_skipped = max_skipped
        self.skipped: list[SkippedSample] = []

    @property
    def dataset(self) -> MappedDataset:
        """Dataset that the samples are loaded from."""
        return self.loader.dataset.dataset  # type: ignore[attr-defined]

    def __len__(self) -> int:
        """Return the number of batches of one epoch, including those that may turn out to be empty."""
        return len(self.loader)

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        """Iterate over the batches, without empty ones.

        Raises:
            TooManySkippedError: If more samples were skipped than allowed.
            DataError: If an invalid sample must not be skipped, no replacement was found, or a worker process died.
        """
        for batch in self.loader:
            for loaded in batch:
                for sample in loaded.skipped:
                    self._record(sample)
                if self.watch is not None and loaded.content is not None:
                    self.watch.add(loaded.content)
            samples = [loaded.sample for loaded in batch if loaded.sample is not None]
            if samples:
                yield samples

    def _record(self, sample: SkippedSample) -> None:
        if any(known.index == sample.index for known in self.skipped):
            return
        self.skipped.append(sample)
        _log.warning("Skipped invalid sample %d: %s", sample.index, sample.reason)
        if len(self.skipped) > self.max_skipped:
            raise _too_many_error(self.skipped, max_skipped=self.max_skipped)


def _too_many_error(skipped: Sequence[SkippedSample], *, max_skipped: int) -> TooManySkippedError:
    listed = "".join(f"\n  sample {known.index}: {known.reason}" for known in skipped)
    return TooManySkippedError(
        f"{len(skipped)} samples are invalid, but at most {max_skipped} may be skipped:{listed}\n"
        "Fix or remove them, or increase DATALOADER.MAX_SKIPPED. "
        f"Received: DATALOADER.MAX_SKIPPED={max_skipped}"
    )
