import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dl_lib.data.transforms import (
    CropCandidates,
    RandomCropPad,
    RandomFlip,
    RandomRotation,
    RandomScale,
    ResizeShortestEdge,
)


def test_all_crop_positions_are_sampled():
    rng = np.random.default_rng(0)
    augmentation = RandomCropPad((3, 2))
    corners = {(crop.top, crop.left) for crop in (augmentation.get_transform(rng, size=(5, 4)) for _ in range(300))}
    assert corners == {(top, left) for top in range(3) for left in range(3)}


@given(
    size=st.tuples(st.integers(1, 3000), st.integers(1, 3000)), short=st.integers(1, 2048), longest=st.integers(1, 4096)
)
@settings(max_examples=100, deadline=None)
def test_resize_keeps_the_aspect_ratio_and_both_limits(size, short, longest):
    resize = ResizeShortestEdge((short,), longest).get_transform(np.random.default_rng(0), size=size)
    new = (resize.height, resize.width)
    assert max(new) <= longest
    assert min(new) <= short
    assert min(new) == short or max(new) == longest
    scale = min(short / min(size), longest / max(size))
    assert all(abs(side - old * scale) <= 0.5 + 1e-9 or side == 1 for side, old in zip(new, size, strict=True))


def test_scale_factors_cover_their_range_and_keep_the_aspect_ratio():
    rng = np.random.default_rng(0)
    resizes = [RandomScale((0.5, 2.0), 5000, "pil").get_transform(rng, size=(1000, 2000)) for _ in range(500)]
    factors = np.array([resize.height / 1000 for resize in resizes])
    assert 0.5 <= factors.min() < 0.52
    assert 1.97 < factors.max() <= 2.0
    assert abs(factors.mean() - 1.25) < 0.06
    assert all(abs(resize.width - 2 * resize.height) <= 1 and resize.backend == "pil" for resize in resizes)


def test_scale_is_limited_by_the_longer_edge():
    resize = RandomScale((3.0, 3.0), 4096).get_transform(np.random.default_rng(0), size=(1024, 2048))
    assert (resize.height, resize.width) == (2048, 4096)


def test_flip_follows_its_probability():
    rng = np.random.default_rng(0)
    flips = [RandomFlip(0.3).get_transform(rng, size=(4, 4)).flipped for _ in range(2000)]
    assert abs(np.mean(flips) - 0.3) < 0.04


def test_rotation_angles_cover_their_range():
    rng = np.random.default_rng(0)
    rotation = RandomRotation(10.0, image_pad=3, label_pad=4)
    rotations = [rotation.get_transform(rng, size=(4, 4)) for _ in range(500)]
    degrees = np.array([rotate.degrees for rotate in rotations])
    assert -10 <= degrees.min() < -9.8
    assert 9.8 < degrees.max() <= 10
    assert {(rotate.image_pad, rotate.label_pad) for rotate in rotations} == {(3, 4)}


def test_first_candidate_is_the_crop_sampled_without_candidates():
    plain = RandomCropPad((4, 5)).get_transform(np.random.default_rng(3), size=(30, 40))
    candidates = RandomCropPad((4, 5), max_class_ratio=0.75).get_transform(np.random.default_rng(3), size=(30, 40))
    assert isinstance(candidates, CropCandidates)
    assert candidates.crops[0] == plain
    assert len(set(candidates.crops)) == 10
    assert (candidates.max_ratio, candidates.ignore_value) == (0.75, 255)


@pytest.mark.parametrize(
    ("make", "received"),
    [
        (lambda: ResizeShortestEdge((), 5), r"short_edges_px=\(\), max_size_px=5"),
        (lambda: ResizeShortestEdge((0, 5), 5), r"short_edges_px=\(0, 5\), max_size_px=5"),
        (lambda: ResizeShortestEdge((5,), 0), "max_size_px=0"),
        (lambda: RandomScale((0.0, 1.0), 5), r"factors=\(0.0, 1.0\), max_size_px=5"),
        (lambda: RandomScale((2.0, 1.0), 5), r"factors=\(2.0, 1.0\), max_size_px=5"),
        (lambda: RandomScale((1.0, 1.0), 0), "max_size_px=0"),
        (lambda: RandomFlip(1.5), "probability=1.5"),
        (lambda: RandomRotation(-1.0), "max_degrees=-1.0"),
        (lambda: RandomRotation(1.0, image_pad=-1), "image_pad=-1"),
        (lambda: RandomCropPad((0, 4)), r"crop_size=\(0, 4\)"),
        (lambda: RandomCropPad((4, 4), image_pad=256), "image_pad=256"),
        (lambda: RandomCropPad((4, 4), max_class_ratio=0.0), "max_class_ratio=0.0"),
    ],
)
def test_invalid_arguments_raise(make, received):
    with pytest.raises(ValueError, match=f"Received: .*{received}$"):
        make()
