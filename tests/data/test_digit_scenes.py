import builtins
import hashlib
import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits

from dl_lib.data.catalog import DatasetCatalog
from dl_lib.data.datasets.digit_scenes import DigitScenes, PlacedDigit, render_labels


@pytest.fixture(scope="module")
def scenes() -> DigitScenes:
    return DigitScenes("train", length=200)


def digest(sample) -> str:
    return hashlib.sha256(sample["image"].tobytes() + sample["sem_seg"].tobytes()).hexdigest()


def test_sample_depends_on_seed_split_and_index_only(scenes):
    reference = digest(scenes[3])
    assert digest(scenes[7]) != reference
    assert digest(scenes[3]) == reference  # independent of previous samples
    assert digest(DigitScenes("train", length=4)[3]) == reference  # independent of the length
    assert digest(pickle.loads(pickle.dumps(scenes))[3]) == reference  # independent of the process
    assert digest(DigitScenes("train", length=4, seed=1)[3]) != reference
    assert digest(DigitScenes("val", length=4)[3]) != reference


@pytest.mark.parametrize("size", [(128, 128), (64, 160), (48, 48)])
def test_shapes_and_values(size):
    sample = DigitScenes("val", length=5, size=size)[4]
    assert sample["image"].shape == (*size, 3)
    assert sample["image"].dtype == sample["sem_seg"].dtype == np.uint8
    assert sample["image"].flags.c_contiguous
    assert sample["sem_seg"].shape == size
    assert set(np.unique(sample["sem_seg"]).tolist()) <= {*range(11), 255}
    assert sample["image_id"] == "val_000004"


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


def test_ignored_border_separates_classes(scenes):
    """Adjacent pixels have equal labels or one is ignored, also where digits overlap."""
    for index in range(30):
        label = scenes[index]["sem_seg"].astype(int)
        for a, b in ((label[1:], label[:-1]), (label[:, 1:], label[:, :-1]), (label[1:, 1:], label[:-1, :-1])):
            assert ((a == b) | (a == 255) | (b == 255)).all()


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


def test_registered_lengths():
    assert len(DatasetCatalog.get("digit_scenes_train")) == 20000
    assert len(DatasetCatalog.get("digit_scenes_val")) == 200


@pytest.mark.parametrize(
    ("split", "arguments", "complaint"),
    [
        ("test", {"length": 1}, "one of train, val. Received: split='test'$"),
        ("val", {"length": 0}, "Received: length=0$"),
        ("val", {"length": 1, "size": (128, 40)}, r"at least 48 x 48 pixels. Received: size=\(128, 40\)$"),
    ],
)
def test_invalid_arguments_raise(split, arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        DigitScenes(split, **arguments)


def test_index_out_of_range_raises():
    scenes = DigitScenes("val", length=2)
    assert len(list(scenes)) == 2
    with pytest.raises(IndexError, match=r"0..1. Received: index=2$"):
        scenes.layout(2)


def test_missing_scikit_learn_raises_with_the_extra(monkeypatch):
    real_import = builtins.__import__

    def no_sklearn(name, *args, **kwargs):
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_sklearn)
    with pytest.raises(ImportError, match=r"pip install 'dl_lib\[quickstart\]'"):
        DatasetCatalog.get("digit_scenes_val")


def test_varied_scenes_differ_in_number_and_scale_of_the_digits():
    """Counts of each kind of scene; the mixed ones overlap with all others."""
    scenes = DigitScenes("val", length=200, varied=True)
    layouts = [scenes.layout(index) for index in range(200)]
    assert digest(scenes[3]) != digest(DigitScenes("val", length=4)[3])
    assert scenes.fingerprint() != DigitScenes("val", length=200).fingerprint()
    empty = sum(not digits for digits in layouts)
    large = sum(bool(digits) and min(digit.scale for digit in digits) >= 6 for digits in layouts)
    small = sum(len(digits) >= 3 and max(digit.scale for digit in digits) <= 3.5 for digits in layouts)
    assert 10 <= empty <= 40  # of 25 expected
    assert large >= 35  # of 50 expected, and a few single large digits
    assert small >= 35
    assert max(len(digits) for digits in layouts) <= 8


def test_the_scales_of_varied_scenes_fit_small_images():
    scenes = DigitScenes("val", length=40, size=(48, 48), varied=True)
    for index in range(40):
        assert scenes[index]["image"].shape == (48, 48, 3)
