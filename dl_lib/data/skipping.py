"""What a sample that cannot be used does to a run: `DATALOADER.ON_ERROR`.

Samples are made in several processes, and none of them knows of the others. So a sample carries the note of what was
skipped for it, and the process that consumes all of them keeps the count.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Dataset

from dl_lib.data.errors import DataError
from dl_lib.data.mapper import MappedDataset
from dl_lib.data.samplers import SampleKey
from dl_lib.data.workers import WorkerNotes

__all__ = ["Loaded", "OnError", "SampleLoader", "SkippedSample", "TolerantDataset", "TooManySkippedError"]

OnError = Literal["raise", "replace", "leave_out"]

_log = logging.getLogger(__name__)


class TooManySkippedError(DataError):
    """More samples could not be used than `DATALOADER.MAX_SKIPPED` allows."""


@dataclass(frozen=True)
class SkippedSample:
    """Attributes: `index` of the sample in its data set; the `reason`, which names its file."""

    index: int
    reason: str


class Loaded(NamedTuple):
    """Attributes: the mapped `sample`, None where it was left out; what was `skipped` for it.

    A tuple, and not a dataclass, because torch looks into tuples for the tensors that it pins.
    """

    sample: dict[str, Any] | None
    skipped: tuple[SkippedSample, ...] = ()


class TolerantDataset(Dataset):
    """Mapped samples with the note of those that could not be used.

    Args:
        dataset: whose errors of the kind DataError are dealt with; all others are raised.
        on_error: `raise` them, too; `replace` the sample by another one, drawn from its own random generator, so that
            a batch has always the same size, whichever process makes it; or `leave_out` the sample.
        max_skipped: replacements that may fail one after the other; the next error is raised.
        notes: of the workers that load the samples.
    """

    def __init__(self, dataset: MappedDataset, *, on_error: OnError, max_skipped: int, notes: WorkerNotes) -> None:
        self.dataset = dataset
        self.on_error = on_error
        self.max_skipped = max_skipped
        self.notes = notes

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey) -> Loaded:
        rng = self.dataset.generator(key)
        if self.on_error == "replace":
            return self._replacing(key.index, rng=rng)
        try:
            return Loaded(self._map(key.index, rng=rng))
        except DataError as error:
            if self.on_error == "raise":
                raise
            return Loaded(None, (SkippedSample(key.index, str(error)),))

    def _replacing(self, index: int, *, rng: np.random.Generator) -> Loaded:
        skipped: list[SkippedSample] = []
        while True:
            try:
                return Loaded(self._map(index, rng=rng), tuple(skipped))
            except DataError as error:
                skipped.append(SkippedSample(index, str(error)))
                if len(skipped) > self.max_skipped:
                    raise
                index = int(rng.integers(len(self)))

    def _map(self, index: int, *, rng: np.random.Generator) -> dict[str, Any]:
        with self.notes.at(index):
            return self.dataset.map(index, rng=rng)


class SampleLoader:
    """Batches of samples, and an account of those that were skipped.

    Args:
        loader: gives batches of Loaded.
        max_skipped: different samples that may be skipped.

    Attributes:
        loader: as given.
        skipped: every different sample that was skipped so far, in the order in which they were met.
    """

    def __init__(self, loader: DataLoader[Loaded], *, max_skipped: int) -> None:
        self.loader = loader
        self.max_skipped = max_skipped
        self.skipped: list[SkippedSample] = []

    def __len__(self) -> int:
        """Batches of one pass, those included of which nothing may be left."""
        return len(self.loader)

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        """The batches, without those of which nothing is left.

        Raises:
            TooManySkippedError: when more samples than allowed were skipped.
            DataError: if none may be skipped, none could be found to replace one, or a process that loads has died.
        """
        for batch in self.loader:
            for loaded in batch:
                for sample in loaded.skipped:
                    self._note(sample)
            samples = [loaded.sample for loaded in batch if loaded.sample is not None]
            if samples:
                yield samples

    def _note(self, sample: SkippedSample) -> None:
        if any(known.index == sample.index for known in self.skipped):
            return
        self.skipped.append(sample)
        _log.warning("sample %d is skipped: %s", sample.index, sample.reason)
        if len(self.skipped) > self.max_skipped:
            listed = "".join(f"\n  sample {known.index}: {known.reason}" for known in self.skipped)
            raise TooManySkippedError(
                f"{len(self.skipped)} samples cannot be used:{listed}\n"
                "Mend them, or allow for more with DATALOADER.MAX_SKIPPED. "
                f"Received: DATALOADER.MAX_SKIPPED={self.max_skipped}"
            )
