from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dl_lib.data.samplers import InferenceSampler, SampleKey, TrainingSampler

NUM = st.integers(1, 30)
WORLD = st.integers(1, 5)


def take(count, num_samples=10, **arguments):
    return list(islice(TrainingSampler(num_samples, **{"seed": 0, **arguments}), count))


@given(num_samples=NUM, seed=st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_each_epoch_contains_every_sample_once(num_samples, seed):
    keys = take(3 * num_samples, num_samples, seed=seed)
    for epoch in range(3):
        part = keys[epoch * num_samples : (epoch + 1) * num_samples]
        assert {key.epoch for key in part} == {epoch}
        assert sorted(key.index for key in part) == list(range(num_samples))


def test_permutation_depends_on_epoch_and_seed():
    keys = take(300, 100)
    orders = [[key.index for key in keys[start : start + 100]] for start in (0, 100, 200)]
    orders.append([key.index for key in take(100, 100, seed=1)])
    orders.append(list(range(100)))
    assert len({tuple(order) for order in orders}) == 5


@given(num_samples=NUM, world_size=WORLD)
@settings(max_examples=30, deadline=None)
def test_ranks_partition_one_stream(num_samples, world_size):
    shards = [take(25, num_samples, rank=rank, world_size=world_size) for rank in range(world_size)]
    merged = [key for keys in zip(*shards, strict=True) for key in keys]
    assert merged == take(25 * world_size, num_samples)


@given(num_samples=NUM, world_before=WORLD, world_after=WORLD, steps=st.integers(0, 20))
@settings(max_examples=30, deadline=None)
def test_resuming_with_another_world_size_continues_the_stream(num_samples, world_before, world_after, steps):
    used = steps * world_before
    whole = take(used + 10 * world_after, num_samples, seed=3)
    before = [take(steps, num_samples, seed=3, rank=rank, world_size=world_before) for rank in range(world_before)]
    assert [key for keys in zip(*before, strict=True) for key in keys] == whole[:used]
    for rank in range(world_after):
        resumed = take(10, num_samples, seed=3, rank=rank, world_size=world_after, start=used)
        assert resumed == whole[used + rank :: world_after]


def test_each_iteration_begins_at_start():
    sampler = TrainingSampler(5, seed=0, start=7)
    first = list(islice(sampler, 9))
    assert list(islice(sampler, 9)) == first


@given(num_samples=NUM, world_size=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_inference_shards_cover_all_samples_in_order(num_samples, world_size):
    shards = [InferenceSampler(num_samples, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert [key for shard in shards for key in shard] == [SampleKey(0, index) for index in range(num_samples)]
    lengths = [len(shard) for shard in shards]
    assert lengths == [len(list(shard)) for shard in shards]
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize(
    ("arguments", "received"),
    [
        ({"num_samples": 0}, "num_samples=0"),
        ({"num_samples": 3, "rank": 2, "world_size": 2}, "rank=2, world_size=2"),
        ({"num_samples": 3, "rank": -1}, "rank=-1, world_size=1"),
    ],
)
def test_invalid_arguments_raise(arguments, received):
    with pytest.raises(ValueError, match=f"Received: {received}$"):
        InferenceSampler(**arguments)
    with pytest.raises(ValueError, match=f"Received: {received}$"):
        TrainingSampler(seed=0, **arguments)


def test_negative_start_raises():
    with pytest.raises(ValueError, match=r"Received: start=-1$"):
        TrainingSampler(3, seed=0, start=-1)
