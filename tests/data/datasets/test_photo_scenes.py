import math
from dataclasses import replace

import numpy as np
import pytest
from skimage.data import lfw_subset

from dl_lib.data.datasets import photo_scenes
from dl_lib.data.datasets.photo_regions import CLASS_NAMES, PHOTO_REGIONS, crop_regions
from dl_lib.data.datasets.photo_rendering import build_pyramid, recolor_photo, warp_photo
from dl_lib.data.datasets.photo_scenes import SCENE_KINDS, PhotoScenes, PlacedPhoto, render_labels

SPLITS = ("train", "val")


@pytest.fixture(scope="module")
def datasets() -> dict[str, PhotoScenes]:
    return {split: PhotoScenes(split, length=200) for split in SPLITS}


def test_no_photograph_is_used_in_both_splits():
    train, val = ({region.photo for region in PHOTO_REGIONS[split]} for split in SPLITS)
    assert not train & val
    assert {f"lfw_{index}" for index in range(100)} <= train | val


@pytest.mark.parametrize("split", SPLITS)
def test_regions_are_inside_their_photographs(split):
    crops, faces = crop_regions(split), lfw_subset()
    for region, crop in zip(PHOTO_REGIONS[split], crops, strict=True):
        assert (crop.dtype, crop.shape[2]) == (np.uint8, 3)
        assert crop.std() > 1, "a constant region shows nothing"
        if region.box is not None:
            top, left, bottom, right = region.box
            assert crop.shape[:2] == (bottom - top, right - left)
        if region.photo.startswith("lfw_"):
            face = faces[int(region.photo.removeprefix("lfw_"))]
            np.testing.assert_allclose(crop[..., 1] / 255, face, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("split", SPLITS)
def test_every_class_occurs(datasets, split):
    counts = sum(np.bincount(datasets[split][index]["sem_seg"].ravel(), minlength=256) for index in range(100))
    ratios = counts / counts.sum()
    assert ratios[: len(CLASS_NAMES)].min() > 0.015
    assert ratios[: len(CLASS_NAMES)].max() < 0.5
    assert ratios[255] < 0.06


@pytest.mark.parametrize("split", SPLITS)
def test_layout(datasets, split):
    scenes = datasets[split]
    layouts = [scenes.layout(index) for index in range(200)]
    for scene in layouts:
        backdrop = scenes.regions[scene.backdrop].class_name
        sides = [item.side_px for item in scene.objects]
        assert sides == sorted(sides, reverse=True)
        for item in scene.objects:
            assert scenes.regions[item.region].class_name == CLASS_NAMES[item.label] != backdrop
            assert 0 <= item.top <= item.top + item.side_px <= 96
            assert 0 <= item.left <= item.left + item.side_px <= 96
    counts = [len(scene.objects) for scene in layouts]
    sides = [item.side_px for scene in layouts for item in scene.objects]
    assert min(counts) == 0
    assert 6 <= max(counts) <= max(kind.objects[1] for kind in SCENE_KINDS)
    assert 24 <= min(sides) < 26
    assert 86 < max(sides) <= 90


def brute_force_labels(objects, background, size):
    """Label each pixel by the topmost object that contains the center of the pixel or of one of its neighbors."""

    def contains(item, row, column):
        tilt, (a, b) = math.radians(item.tilt_degrees), item.half_axes
        x, y = column - item.left - (item.side_px - 1) / 2, row - item.top - (item.side_px - 1) / 2
        u, v = x * math.cos(tilt) + y * math.sin(tilt), y * math.cos(tilt) - x * math.sin(tilt)
        return abs(u / a) ** item.power + abs(v / b) ** item.power <= 1

    labels = np.full(size, background, np.uint8)
    for row, column in np.ndindex(size):
        for item in reversed(objects):
            if contains(item, row, column):
                labels[row, column] = item.label
                break
            if any(contains(item, row + r, column + c) for r in (-1, 0, 1) for c in (-1, 0, 1)):
                labels[row, column] = 255
                break
    return labels


def test_label_rendering_matches_brute_force(datasets):
    objects = [
        PlacedPhoto(0, 3, 0.77, 2.1, -15.0, 30, 2, 1),
        PlacedPhoto(0, 4, 0.5, 12.0, 15.0, 25, 10, 12),
        PlacedPhoto(0, 5, 2.0, 1.5, 7.0, 20, 20, 18),
    ]
    expected = brute_force_labels(objects, 1, (40, 42))
    assert set(np.unique(expected)) == {1, 3, 4, 5, 255}
    np.testing.assert_array_equal(render_labels(objects, background=1, size=(40, 42)), expected)


@pytest.mark.parametrize("tilt_degrees", [-15.0, 0.0, 15.0])
@pytest.mark.parametrize("power", [1.5, 16.0])
def test_objects_leave_space_for_the_ignored_border(tilt_degrees, power):
    item = PlacedPhoto(0, 3, 1.0, power, tilt_degrees, 31, 0, 0)
    body = item.opacity() >= 0.5
    assert not body[[0, -1]].any()
    assert not body[:, [0, -1]].any()
    assert body[2:-2].any(axis=1).all() or power < 2


def test_image_shows_the_class_of_each_label(datasets, monkeypatch):
    """With a constant gray level for each class, pixels have that of their label, except for noise and edges."""
    scenes = PhotoScenes("val", length=20)
    levels = [20 + 40 * CLASS_NAMES.index(region.class_name) for region in scenes.regions]
    scenes._pyramids = [[np.full((64, 64, 3), level, np.uint8)] for level in levels]
    monkeypatch.setattr(photo_scenes, "recolor_photo", lambda rng, image: image.transpose(2, 0, 1).astype(np.float32))
    for index in range(20):
        sample = scenes[index]
        valid = sample["sem_seg"] != 255
        difference = sample["image"][valid].mean(-1) - (20 + 40.0 * sample["sem_seg"][valid])
        assert (np.abs(difference) < 20).mean() > 0.98


def test_objects_show_their_region_and_nothing_else(datasets):
    """Whatever the zoom, a photograph is not continued beyond its region, except at the corners of tilted objects."""
    scenes = PhotoScenes("val", length=1)
    rng = np.random.default_rng(0)
    rows, columns = np.indices((60, 90), np.uint8)
    scenes._pyramids[0] = [np.stack([rows, columns, rows], -1)]
    for zoom in ((0.0, 0.0), (0.5, 1.5), (4.0, 8.0)):
        scenes.regions = (replace(scenes.regions[0], zoom=zoom), *scenes.regions[1:])
        shown = []
        for _ in range(20):
            image = warped(scenes, rng, size=(40, 40))
            steps = np.diff(image.astype(int), axis=0)[..., 0]
            assert (steps >= 0).all(), "a reflection would reverse the order"
            shown.append(int(image[-1, 0, 0]) - int(image[0, 0, 0]) + 1)
        zooms = 40 / np.array(shown)
        low, high = (max(limit, 40 / 60) for limit in zoom)
        assert low * 0.9 <= zooms.min() <= zooms.max() <= high * 1.2


def warped(scenes, rng, *, size):
    images = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photo_scenes, "recolor_photo", lambda rng, image: images.append(image))
        scenes._paint(rng, 0, size=size, half_axes=(size[1] / 2, size[0] / 2))
    return images[0]


@pytest.mark.parametrize("zoom", [1.0, 0.5, 0.25])
def test_warping_without_rotation_is_a_reduction(zoom):
    image = np.random.default_rng(0).integers(0, 256, (128, 160, 3), dtype=np.uint8)
    size = (round(128 * zoom), round(160 * zoom))
    done = warp_photo(build_pyramid(image), center=(80, 64), zoom=zoom, radians=0.0, size=size)
    step = round(1 / zoom)
    means = image.reshape(size[0], step, size[1], step, 3).mean((1, 3))
    np.testing.assert_allclose(done, means, atol=1.01)


def test_warping_rotates_clockwise():
    image = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    done = warp_photo([image], center=(20, 20), zoom=1.0, radians=math.pi / 2, size=(40, 40))
    np.testing.assert_array_equal(done, np.rot90(image, -1))


def test_recoloring_keeps_the_order_of_gray_levels():
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    for seed in range(10):
        paint = recolor_photo(np.random.default_rng(seed), ramp)
        assert (paint.shape, paint.dtype) == ((3, 1, 256), np.float32)
        assert (np.diff(paint, axis=2) > 0).all()
