import numpy as np
import pytest
from sklearn.datasets import load_digits

from dl_lib.data.datasets.digit_scenes import DigitScenes, PlacedDigit, render_labels


@pytest.fixture(scope="module")
def scenes() -> DigitScenes:
    return DigitScenes("train", length=200)


def test_splits_use_disjoint_digits_with_all_classes_in_both():
    glyphs = {split: DigitScenes(split, length=1).glyphs.tolist() for split in ("train", "val")}
    assert set(glyphs["val"]) == set(range(4, 1797, 5))
    assert set(glyphs["train"]) == set(range(1797)) - set(glyphs["val"])
    truth = load_digits().target
    for split, pool in glyphs.items():
        scenes = DigitScenes(split, length=60)
        placed = [digit for index in range(60) for digit in scenes.layout(index)]
        assert {digit.glyph for digit in placed} <= set(pool)
        assert all(digit.digit == truth[digit.glyph] for digit in placed)
        assert {digit.digit for digit in placed} == set(range(10))


def test_scales_cover_2_to_10(scenes):
    scales = np.sort([digit.scale for index in range(200) for digit in scenes.layout(index)])
    assert 2 <= scales[0] < 2.1
    assert 9.8 < scales[-1] <= 10
    fifths, _ = np.histogram(np.log(scales / 2) / np.log(5), bins=5, range=(0, 1))
    assert (fifths / len(scales) > 0.08).all()
    assert fifths[0] == fifths.max(), "small digits are the most frequent"


def test_digits_are_inside_and_sorted_from_large_to_small(scenes):
    for index in range(200):
        placed = scenes.layout(index)
        assert 2 <= len(placed) <= 6
        assert [digit.scale for digit in placed] == sorted((digit.scale for digit in placed), reverse=True)
        for digit in placed:
            assert 0 <= digit.top <= digit.top + digit.side_px <= 96
            assert 0 <= digit.left <= digit.left + digit.side_px <= 96
            assert abs(digit.tilt_degrees) <= 5


def brute_force_labels(placed, inks, size):
    """Label each pixel by the topmost digit that contains the pixel or one of its neighbors."""
    labels = np.zeros(size, np.uint8)
    for row in range(size[0]):
        for column in range(size[1]):
            for digit, ink in reversed(list(zip(placed, inks, strict=True))):
                body = {(r + digit.top, c + digit.left) for r, c in np.argwhere(ink >= 0.45).tolist()}
                if (row, column) in body:
                    labels[row, column] = digit.digit + 1
                    break
                if any((row + r, column + c) in body for r in (-1, 0, 1) for c in (-1, 0, 1)):
                    labels[row, column] = 255
                    break
    return labels


def test_label_rendering_matches_brute_force():
    rng = np.random.default_rng(0)
    size = (26, 28)
    for _ in range(5):
        placed = [
            PlacedDigit(0, digit, scale, 0.0, *rng.integers(0, 6, 2).tolist()) for digit, scale in ((9, 2.0), (3, 1.5))
        ]
        inks = [np.pad((rng.uniform(0, 1, (digit.side_px - 2,) * 2) > 0.85).astype(np.float32), 1) for digit in placed]
        np.testing.assert_array_equal(render_labels(placed, inks, size=size), brute_force_labels(placed, inks, size))


def test_digits_contrast_with_their_surroundings(scenes):
    """The last digit of a scene is not covered; its mean color must differ from its surroundings."""
    differences = []
    for index in range(100):
        sample, digit = scenes[index], scenes.layout(index)[-1]
        image, label = sample["image"][digit.window].astype(float), sample["sem_seg"][digit.window]
        body = label == digit.digit + 1
        differences.append(np.abs(image[body].mean(0) - image[~body & (label != 255)].mean(0)).mean())
    assert np.quantile(differences, 0.05) > 50


def test_class_frequencies(scenes):
    counts = sum(np.bincount(scenes[index]["sem_seg"].ravel(), minlength=256) for index in range(200))
    ratios = counts / counts.sum()
    assert 0.65 < ratios[0] < 0.85
    assert 0.03 < ratios[255] < 0.08
    assert ratios[1:11].min() > 0.008
    assert ratios[1:11].max() < 0.035
    assert ratios[[*range(11), 255]].sum() == pytest.approx(1)


def test_varied_scenes_differ_in_number_and_scale_of_the_digits():
    """Counts of each kind among 200 scenes, 50 of each; the mixed ones overlap with all others."""
    scenes = DigitScenes("val", length=200, varied=True)
    layouts = [scenes.layout(index) for index in range(200)]
    assert layouts[3] != DigitScenes("val", length=4).layout(3)
    assert scenes.fingerprint() != DigitScenes("val", length=200).fingerprint()
    empty = sum(not digits for digits in layouts)
    large = sum(bool(digits) and min(digit.scale for digit in digits) >= 6 for digits in layouts)
    small = sum(len(digits) >= 3 and max(digit.scale for digit in digits) <= 3.5 for digits in layouts)
    assert 15 <= empty <= 35  # half of the scenes of the last kind
    assert large >= 50
    assert small >= 45  # overlaps remove digits
    assert max(len(digits) for digits in layouts) <= 8


def test_the_scales_of_varied_scenes_fit_small_images():
    scenes = DigitScenes("val", length=40, size=(48, 48), varied=True)
    for index in range(40):
        assert scenes[index]["image"].shape == (48, 48, 3)
