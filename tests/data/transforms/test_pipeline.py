"""Fused transforms: pixels, labels and sizes equal those of separate transforms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dl_lib.data.transforms import (
    BACKENDS,
    ColorShift,
    CropPad,
    FusedCrop,
    HorizontalFlip,
    RandomCropPad,
    RandomFlip,
    RandomScale,
    Resize,
    ResizeShortestEdge,
    Rotate,
    fuse,
    sample_transforms,
)

CITYSCAPES_SCALES = (512, 768, 1024, 1280, 1536, 2048)


def assert_equal_results(transforms, *, size):
    rng = np.random.default_rng(0)
    one = {"image": rng.integers(0, 256, (*size, 3)).astype(np.uint8), "label": rng.integers(0, 256, size)}
    other, output_size = dict(one), size
    for transform in transforms:
        one["image"], one["label"] = transform.apply_image(one["image"]), transform.apply_label(one["label"])
        output_size = transform.output_size(output_size)
    for transform in fuse(transforms):
        other["image"], other["label"] = transform.apply_image(other["image"]), transform.apply_label(other["label"])
    np.testing.assert_array_equal(one["image"], other["image"])
    np.testing.assert_array_equal(one["label"], other["label"])
    assert one["label"].shape == one["image"].shape[:2] == output_size == fuse(transforms)[-1].output_size(size)


@given(
    size=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    resize=st.sampled_from([ResizeShortestEdge((24, 48, 60, 90), 128), RandomScale((0.3, 2.5), 200), None]),
    flips=st.booleans(),
    crop=st.tuples(st.integers(1, 100), st.integers(1, 100)),
    backend=st.sampled_from(sorted(BACKENDS)),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=200, deadline=None)
def test_any_sequence_of_resize_flip_and_crop(size, resize, flips, crop, backend, seed):
    augmentations = [RandomFlip(0.5)] if flips else []
    augmentations.append(RandomCropPad(crop, image_pad=5))
    transforms = sample_transforms(augmentations, rng=np.random.default_rng(seed), size=size)
    if resize is not None:
        scaled = type(resize)(*list(vars(resize).values())[:2], backend)
        transforms = sample_transforms([scaled, *augmentations], rng=np.random.default_rng(seed), size=size)
    assert_equal_results(transforms, size=size)
    assert len(fuse(transforms)) == 1


@pytest.mark.parametrize("backend", sorted(BACKENDS))
def test_published_augmentation_at_cityscapes_size(backend):
    augmentations = [ResizeShortestEdge(CITYSCAPES_SCALES, 4096, backend), RandomFlip(), RandomCropPad((768, 768))]
    seen = {}
    for seed in range(60):
        transforms = sample_transforms(augmentations, rng=np.random.default_rng(seed), size=(1024, 2048))
        seen.setdefault(transforms[0].height, transforms)
    assert set(seen) == set(CITYSCAPES_SCALES)
    assert {transforms[1].flipped for transforms in seen.values()} == {False, True}
    for transforms in seen.values():
        assert_equal_results(transforms, size=(1024, 2048))


def test_crop_absorbs_only_directly_preceding_transforms():
    resize, flip, crop = Resize(8, 8), HorizontalFlip(True), CropPad(0, 0, (4, 4), (4, 4), 0, 255)
    rotate, shift = Rotate(3.0, 0, 255), ColorShift(brightness=3.0)
    assert fuse([resize, flip, crop, shift]) == (FusedCrop(resize, True, crop), shift)
    assert fuse([resize, flip, rotate, crop]) == (resize, flip, rotate, FusedCrop(None, False, crop))
    assert fuse([flip, resize, crop]) == (flip, FusedCrop(resize, False, crop))
    assert fuse([resize, flip]) == (resize, flip)
    assert fuse([]) == ()
