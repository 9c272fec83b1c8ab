"""Which samples come when, for one process of several."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

__all__ = ["InferenceSampler", "SampleKey", "TrainingSampler"]


@dataclass(frozen=True)
class SampleKey:
    """Names one mapped sample: which of the data set, and in which pass over it."""

    epoch: int
    index: int


class TrainingSampler(Sampler[SampleKey]):
    """An endless stream: one shuffled pass over the data set after the other, dealt out to the processes in turn.

    The stream itself does not depend on the number of processes, and the k-th step with B images over all processes
    together takes its places k * B to (k + 1) * B - 1. So one integer says how far a training is, whatever its
    number of processes was.

    Args:
        num_samples: of the data set.
        seed: of the shuffling.
        rank: this process, 0..world_size - 1; it takes the places rank, rank + world_size, ...
        world_size: number of processes.
        start: place in the stream to start from: the samples that all processes together have used up.

    Raises:
        ValueError: if there is nothing to sample, or a number is out of its range.
    """

    def __init__(self, num_samples: int, *, seed: int, rank: int = 0, world_size: int = 1, start: int = 0) -> None:
        _check_shard(num_samples, rank=rank, world_size=world_size)
        if start < 0:
            raise ValueError(f"the stream begins at place 0. Received: start={start}")
        self.num_samples = num_samples
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.start = start

    def __iter__(self) -> Iterator[SampleKey]:
        epoch, order = -1, np.empty(0, np.int64)
        for place in itertools.count(self.start + self.rank, self.world_size):
            if place // self.num_samples != epoch:
                epoch = place // self.num_samples
                order = np.random.default_rng([self.seed, epoch]).permutation(self.num_samples)
            yield SampleKey(epoch, int(order[place % self.num_samples]))


class InferenceSampler(Sampler[SampleKey]):
    """Every sample once, in order: each process has a run of neighbours, none is repeated to fill up.

    Args:
        num_samples: of the data set.
        rank: this process, 0..world_size - 1.
        world_size: number of processes; those beyond the number of samples have none.

    Raises:
        ValueError: if there is nothing to sample, or a number is out of its range.
    """

    def __init__(self, num_samples: int, *, rank: int = 0, world_size: int = 1) -> None:
        _check_shard(num_samples, rank=rank, world_size=world_size)
        self._indices = range(num_samples * rank // world_size, num_samples * (rank + 1) // world_size)

    def __iter__(self) -> Iterator[SampleKey]:
        return (SampleKey(0, index) for index in self._indices)

    def __len__(self) -> int:
        return len(self._indices)


def _check_shard(num_samples: int, *, rank: int, world_size: int) -> None:
    if num_samples < 1:
        raise ValueError(f"there is nothing to sample: the data set is empty. Received: num_samples={num_samples}")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must lie in 0..world_size - 1. Received: rank={rank}, world_size={world_size}")
