"""Check of test samples at the start of a training run."""

import numpy as np
import pytest

from dl_lib.config import get_cfg
from dl_lib.data import build
from dl_lib.data.catalog import Catalog, DatasetMeta
from dl_lib.data.errors import MissingDataError
from dl_lib.evaluation.runner import sample_check
from dl_lib.evaluation.runner.sample_check import warn_about_invalid_samples


def sample(label):
    return {
        "image": np.zeros((8, 6, 3), np.uint8),
        "sem_seg": np.asarray(label, np.uint8),
        "image_id": "a",
        "file_name": "a.png",
    }


def missing():
    raise MissingDataError("no folder")


VALID, TRANSPOSED = sample(np.zeros((8, 6))), sample(np.zeros((6, 8)))


@pytest.mark.parametrize(
    ("load", "problem"),
    [
        (lambda: [VALID] * 3, None),
        (lambda: [VALID, TRANSPOSED], "swapped"),
        (lambda: [sample(np.full((8, 6), 7))], "7"),
        (missing, "no folder"),
    ],
    ids=["valid", "transposed", "unknown id", "missing"],
)
def test_invalid_test_data_is_reported_before_the_training(monkeypatch, caplog, load, problem):
    catalog = Catalog()
    monkeypatch.setattr(build, "DatasetCatalog", catalog)
    for name, loader in (("valid", lambda: [VALID]), ("own", load)):
        catalog.register(name, loader, DatasetMeta(("a", "b"), ((0, 0, 0), (1, 1, 1))))
    cfg = get_cfg()
    cfg.merge_from_list(["DATASETS.TEST", ["own", "valid"], "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 2])
    warn_about_invalid_samples(cfg)
    if problem is None:
        assert not caplog.records
    else:
        assert len(caplog.records) == 1
        assert "own cannot be evaluated" in caplog.text
        assert problem in caplog.text


def test_only_a_part_of_a_large_dataset_is_read(monkeypatch):
    read = []

    class Large:
        def __len__(self):
            return 10_000

        def __getitem__(self, key):
            read.append(key.index)

    monkeypatch.setattr(sample_check, "build_test_dataset", lambda cfg, name: Large())
    cfg = get_cfg()
    cfg.DATASETS.TEST = ["own"]
    warn_about_invalid_samples(cfg)
    assert len(read) == 64
    assert (read[0], read[1], read[-1]) == (0, 159, 9_999)
