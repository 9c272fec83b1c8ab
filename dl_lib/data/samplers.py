"""Distributed samplers for training and evaluation."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler

__all__ = ["InferenceSampler", "SampleKey", "TrainingSampler"]


@dataclass(frozen=True)
class SampleKey:
    """Key of a mapped sample, which determines its random augmentation."""

    epoch: int  # number of the pass over the dataset
    index: int


class TrainingSampler(Sampler[SampleKey]):
    """Infinite sampler: one random permutation of the dataset per epoch, distributed round-robin over the ranks.

    The global stream of samples does not depend on the number of processes: step k with a global batch size of B
    consumes the positions k * B to (k + 1) * B - 1. A single integer therefore describes the progress of a run, even if
    it is resumed with another number of processes.

    Args:
        num_samples: Size of the dataset.
        seed: Seed of the permutations.
        rank: Current rank, which takes the positions rank, rank + world_size, ...
        world_size: Number of processes.
        start: First position of the global stream: the number of samples consumed by all ranks together.

    Raises:
        ValueError: If the dataset is empty or a number is out of range.
    """

    def __init__(self, num_samples: int, *, seed: int, rank: int = 0, world_size: int = 1, start: int = 0) -> None:
        _check_shard(num_samples, rank=rank, world_size=world_size)
        if start < 0:
            raise ValueError(f"start must not be negative. Received: start={start}")
        self.num_samples = num_samples
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.start = start

    def __iter__(self) -> Iterator[SampleKey]:
        epoch, order = -1, np.empty(0, np.int64)
        for position in itertools.count(self.start + self.rank, self.world_size):
            if position // self.num_samples != epoch:
                epoch = position // self.num_samples
                order = np.random.default_rng([self.seed, epoch]).permutation(self.num_samples)
            yield SampleKey(epoch, int(order[position % self.num_samples]))


class InferenceSampler(Sampler[SampleKey]):
    """Sampler that yields each index exactly once, in order: every rank has a contiguous range, without padding.

    Some ranks have no sample if there are more ranks than samples.

    Raises:
        ValueError: If the dataset is empty or a number is out of range.
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
        raise ValueError(f"num_samples must be positive: the dataset is empty. Received: num_samples={num_samples}")
    if not 0 <= rank < world_size:
        raise ValueError(f"rank must be in 0..world_size - 1. Received: rank={rank}, world_size={world_size}")
