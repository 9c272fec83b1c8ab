"""Automatic training crop, and warnings about images that are enlarged a lot."""

from pathlib import Path

import numpy as np
import pytest

from dl_lib.config import ConfigError, get_cfg
from dl_lib.data.catalog import Catalog, DatasetMeta
from dl_lib.data.errors import MissingDataError, UnreadableFileError
from dl_lib.engine import build_configured_model, default_setup
from dl_lib.engine import image_sizes as module
from dl_lib.engine.image_sizes import automatic_crop, warn_about_enlarged_images
from tests.helpers.training import restore_logging

ROOT = Path(__file__).parents[2]
META = DatasetMeta(("a", "b"), ((0, 0, 0), (1, 1, 1)))
STRIDE_8 = ["MODEL.BACKBONE.LAYER_NUM", 2, "MODEL.BACKBONE.CELL_NUM_LIST", [2, 2], "MODEL.BACKBONE.MAX_STRIDE", 8]
STATIC = ["MODEL.META_ARCHITECTURE", "SemanticSegmentor", "MODEL.SEM_SEG_HEAD.IN_FEATURES", ["c3"]]
LARGE = ["INPUT.MIN_SIZE_TEST", 1024]


class Sizes:
    """Dataset that knows the sizes of its images; the file of a size of None is damaged."""

    def __init__(self, *sizes):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def image_size(self, index):
        if self.sizes[index] is None:
            raise UnreadableFileError("damaged. Received: nothing")
        return self.sizes[index]


@pytest.fixture
def catalog(monkeypatch):
    catalog = Catalog()
    monkeypatch.setattr(module, "DatasetCatalog", catalog)
    return catalog


def config(*overrides):
    cfg = get_cfg()
    cfg.merge_from_file(ROOT / "configs" / "Base-DynamicNet4Seg.yaml")
    cfg.merge_from_list(["DATASETS.TRAIN", ["own"], "DATASETS.TEST", ["own"], *overrides])
    return cfg


@pytest.mark.parametrize(
    ("sizes", "overrides", "crop"),
    [
        ([(120, 160)], [], [128, 160]),
        ([(120, 160), (160, 96), None], [], [160, 160]),  # each side of its own largest image
        ([(96, 96)], [], [96, 96]),
        ([(1024, 2048)], [], [512, 512]),
        ([(20, 600)], [], [32, 512]),
        ([(20, 40)], ["MODEL.GATE.SMALL_GATE", True], [128, 128]),  # smallest size of small gates
        ([(17, 40)], STRIDE_8, [24, 40]),
        ([(200, 400)], ["INPUT.MIN_SIZE_TRAIN", [50, 100]], [128, 224]),  # the resize comes before the crop
        ([(100, 200)], ["INPUT.MIN_SIZE_TRAIN", [400], "INPUT.MAX_SIZE_TRAIN", 480], [256, 480]),
        ([(120, 160)], STATIC, [120, 160]),
        ([None], [], [512, 512]),  # the loader reports the file
    ],
)
def test_the_crop_follows_the_images(catalog, sizes, overrides, crop):
    catalog.register("own", lambda: Sizes(*sizes), META)
    assert automatic_crop(config(*overrides), ["own"]) == crop


def test_a_sample_of_a_large_dataset_is_read(catalog):
    reads = []

    class Many(Sizes):
        def image_size(self, index):
            reads.append(index)
            return super().image_size(index)

    catalog.register("many", lambda: Many(*[(64, 64)] * 9999, (100, 200)), META)
    assert automatic_crop(config(), ["many"]) == [128, 224]
    assert len(reads) == 256 and reads == sorted(reads) and reads[-1] == 9999
    with pytest.raises(MissingDataError, match="absent"):
        catalog.register("absent", lambda: (_ for _ in ()).throw(MissingDataError("absent")), META)
        automatic_crop(config(), ["absent"])


def test_setup_measures_the_crop(tmp_path, capsys):
    settings = ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", 11, "MODEL.BACKBONE.INIT_CHANNEL", 8, "MODEL.DEVICE", "cpu"]
    settings += ["DATASETS.TRAIN", ["digit_scenes_train"], "DATASETS.TEST", ["digit_scenes_val"]]
    settings += ["MODEL.BACKBONE.LAYER_NUM", 3, "MODEL.BACKBONE.CELL_NUM_LIST", [2, 3, 4]]
    settings += ["MODEL.BUDGET.CONSTRAIN", True, "MODEL.BUDGET.LOSS_WEIGHT", 0.5, "OUTPUT_DIR", str(tmp_path)]
    cfg = config(*settings, "INPUT.MIN_SIZE_TEST", 200)
    with pytest.raises(ConfigError, match=r"CROP_SIZE must be measured .*default_setup\(cfg\).*Received: .*\[0, 0\]"):
        build_configured_model(cfg)
    with restore_logging():
        default_setup(cfg)
    assert cfg.INPUT.CROP_SIZE == [96, 96]  # as the trainer writes it to config.yaml
    model = build_configured_model(cfg)
    assert model.budget.all_open_madds == model.costs.table(96, 96).expected_all_open
    log = capsys.readouterr().out
    assert "Automatic INPUT.CROP_SIZE: [96, 96] for images of up to 96 x 96 pixels" in log
    assert "INPUT.MIN_SIZE_TEST enlarges images of digit_scenes_val up to 2.1 times (96 x 96 to 200 x 200" in log


def test_rules_between_keys_see_the_measured_crop(tmp_path, catalog):
    """One 32 x 32 crop per process leaves a batch norm a single value at stride 32."""
    catalog.register("own", lambda: Sizes((30, 30)), META)
    settings = ["MODEL.BACKBONE.NORM", "BN", "SOLVER.IMS_PER_BATCH", 1, "OUTPUT_DIR", str(tmp_path)]
    cfg = config(*settings)
    with restore_logging(), pytest.raises(ConfigError, match=r"CROP_SIZE must be at least 64 .*CROP_SIZE=\[32, 32\]"):
        default_setup(cfg)


@pytest.mark.parametrize(
    ("overrides", "sizes", "warning"),
    [
        (LARGE, [(120, 160)], "TEST enlarges images of own up to 8.5 times (120 x 160 to 1024 x"),
        (LARGE, [(1024, 2048), (500, 800)], "2.0 times (500 x 800 to 1024 x 1638"),
        (LARGE, [(512, 1024), None], ""),
        ([], [(120, 160)], ""),
        (["INPUT.MIN_SIZE_TRAIN", [512, 2048]], [(120, 160)], "TRAIN enlarges images of own up to 4.3 times"),
        (["INPUT.MIN_SIZE_TRAIN", [128, 2048]], [(120, 160)], ""),
    ],
)
def test_enlarged_images_are_reported(catalog, caplog, overrides, sizes, warning):
    catalog.register("own", lambda: Sizes(*sizes), META)
    warn_about_enlarged_images(config(*overrides), trains=True)
    assert warning in caplog.text and bool(warning) == bool(caplog.records)
    caplog.clear()
    warn_about_enlarged_images(config(*overrides, "DATASETS.TEST", ["absent"]), trains=False)
    assert not caplog.records


def test_sizes_are_integers(catalog):
    catalog.register("own", lambda: [{"image": np.zeros((40, 70, 3), np.uint8)}], META)  # without image_size
    assert automatic_crop(config(), ["own"]) == [64, 96]
