"""Properties that all datasets of generated scenes share."""

import builtins
import hashlib
import pickle

import numpy as np
import pytest

from dl_lib.data.catalog import DatasetCatalog
from dl_lib.data.datasets import generated_scenes
from dl_lib.data.datasets.digit_scenes import DIGIT_SCENES_META, DigitScenes
from dl_lib.data.datasets.generated_scenes import GeneratedScenes, best_position
from dl_lib.data.datasets.photo_scenes import PHOTO_SCENES_META, PhotoScenes, PlacedPhoto
from dl_lib.data.raw_dataset import HasFileName, HasFingerprint, HasImageSize

SCENES = {DigitScenes: (DIGIT_SCENES_META, "digit_scenes"), PhotoScenes: (PHOTO_SCENES_META, "photo_scenes")}


@pytest.fixture(params=SCENES, ids=lambda scenes: scenes.__name__)
def scenes(request) -> type[GeneratedScenes]:
    return request.param


def digest(sample) -> str:
    return hashlib.sha256(sample["image"].tobytes() + sample["sem_seg"].tobytes()).hexdigest()


def test_sample_depends_on_seed_split_and_index_only(scenes):
    dataset = scenes("train", length=200)
    reference = digest(dataset[3])
    assert digest(dataset[7]) != reference
    assert digest(dataset[3]) == reference  # independent of previous samples
    assert digest(scenes("train", length=4)[3]) == reference  # independent of the length
    assert digest(pickle.loads(pickle.dumps(dataset))[3]) == reference  # independent of the process
    assert digest(scenes("train", length=4, seed=1)[3]) != reference
    assert digest(scenes("val", length=4)[3]) != reference


@pytest.mark.parametrize("size", [(128, 128), (64, 160), (48, 48)])
def test_shapes_and_values(scenes, size):
    meta, _ = SCENES[scenes]
    dataset = scenes("val", length=5, size=size)
    for index in range(5):
        sample = dataset[index]
        assert sample["image"].shape == (*size, 3)
        assert sample["image"].dtype == sample["sem_seg"].dtype == np.uint8
        assert sample["image"].flags.c_contiguous
        assert sample["sem_seg"].shape == dataset.image_size(index) == size
        assert set(np.unique(sample["sem_seg"]).tolist()) <= {*range(len(meta.class_names)), 255}
        assert sample["image_id"] == dataset.file_name(index) == f"val_{index:06d}"


def test_fingerprint_depends_on_all_parameters_and_versions(scenes, monkeypatch):
    dataset = scenes("val", length=2)
    assert all(isinstance(dataset, protocol) for protocol in (HasFileName, HasFingerprint, HasImageSize))
    others = [
        scenes("train", length=2),
        scenes("val", length=3),
        scenes("val", length=2, size=(96, 97)),
        scenes("val", length=2, seed=1),
        *(other("val", length=2) for other in SCENES if other is not scenes),
    ]
    fingerprints = [dataset.fingerprint(), *(other.fingerprint() for other in others)]
    assert scenes("val", length=2).fingerprint() == fingerprints[0]
    monkeypatch.setattr(generated_scenes.cv2, "__version__", "0.0")
    fingerprints.append(dataset.fingerprint())
    assert len(set(fingerprints)) == len(fingerprints)


def test_ignored_border_separates_classes(scenes):
    """Adjacent pixels have equal labels or one is ignored, also where objects overlap."""
    dataset = scenes("train", length=30)
    for index in range(30):
        label = dataset[index]["sem_seg"].astype(int)
        for a, b in ((label[1:], label[:-1]), (label[:, 1:], label[:, :-1]), (label[1:, 1:], label[:-1, :-1])):
            assert ((a == b) | (a == 255) | (b == 255)).all()


@pytest.mark.parametrize(
    ("split", "arguments", "complaint"),
    [
        ("test", {"length": 1}, "one of train, val. Received: split='test'$"),
        ("val", {"length": 0}, "Received: length=0$"),
        ("val", {"length": 1, "size": (128, 40)}, r"at least 48 x 48 pixels. Received: size=\(128, 40\)$"),
    ],
)
def test_invalid_arguments_raise(scenes, split, arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        scenes(split, **arguments)


def test_index_out_of_range_raises(scenes):
    dataset = scenes("val", length=2)
    assert len(list(dataset)) == 2
    with pytest.raises(IndexError, match=r"0..1. Received: index=2$"):
        dataset.layout(2)


def test_registered_datasets(scenes, monkeypatch):
    _, name = SCENES[scenes]
    assert [len(DatasetCatalog.get(f"{name}_{split}")) for split in ("train", "val")] == [20000, 200]
    real_import = builtins.__import__

    def no_sklearn(module, *args, **kwargs):
        if module.startswith("sklearn"):
            raise ImportError(f"No module named {module!r}")
        return real_import(module, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_sklearn)
    with pytest.raises(ImportError, match=r"pip install 'dl_lib\[quickstart\]'"):
        DatasetCatalog.get(f"{name}_val")


def test_best_position_has_the_smallest_overlap():
    """The overlap is that of the painted squares; a free place is found where one exists."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        placed = [PlacedPhoto(0, 0, 1.0, 2.0, 0.0, 40, *rng.integers(0, 57, 2).tolist()) for _ in range(2)]
        painted = np.zeros((96, 96), int)
        for item in placed:
            painted[item.window] += 1
        top, left, overlap = best_position(rng, placed, side=20, size=(96, 96))
        assert overlap == painted[top : top + 20, left : left + 20].sum() / 400 == 0
    _, _, overlap = best_position(rng, placed, side=96, size=(96, 96))
    assert overlap == painted.sum() / 96**2
