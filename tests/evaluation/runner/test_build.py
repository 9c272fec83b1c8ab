"""Evaluators and writers built from a configuration."""

import pytest

from dl_lib.config import get_cfg
from dl_lib.data import DatasetCatalog
from dl_lib.evaluation.official.cityscapes import CityscapesEvaluator
from dl_lib.evaluation.predictions.label_files import LabelPngWriter
from dl_lib.evaluation.predictions.writers import CocoRleWriter
from dl_lib.evaluation.runner.build import (
    build_evaluator,
    build_report_collector,
    build_writers,
    label_png_folder,
    predictions_folder,
)

VAL, TEST, SCENES, VOC = (
    *("cityscapes_fine_sem_seg_val", "cityscapes_fine_sem_seg_test", "digit_scenes_val"),
    "voc_2012_sem_seg_test",
)


def config(*overrides):
    cfg = get_cfg()
    cfg.merge_from_list(list(overrides))
    return cfg


def test_official_scores_need_labelled_cityscapes_data(tmp_path):
    official = config("TEST.OFFICIAL_SCORES", True)
    kinds = {name: type(build_evaluator(official, name, folder=tmp_path)) for name in (VAL, TEST, SCENES)}
    assert [name for name, kind in kinds.items() if kind is CityscapesEvaluator] == [VAL]
    assert type(build_evaluator(config(), VAL, folder=tmp_path)) is not CityscapesEvaluator
    assert build_evaluator(official, VAL, folder=tmp_path).folder == label_png_folder(tmp_path)


@pytest.mark.parametrize("name", [VAL, TEST, SCENES])
@pytest.mark.parametrize("official", [False, True])
def test_evaluator_matches_data_set_and_config(name, official, tmp_path):
    cfg = config("TEST.OFFICIAL_SCORES", official, "TEST.ABSENT_CLASSES", "zero_if_predicted")
    cfg.TEST.BOUNDARY_IOU = True
    evaluator, meta = build_evaluator(cfg, name, folder=tmp_path), DatasetCatalog.meta(name)
    assert (evaluator.dataset_name, evaluator.class_names) == (name, meta.class_names)
    assert (evaluator.labelled, evaluator.absent_rule, evaluator.boundary_iou) == (
        *(meta.labelled, "zero_if_predicted", True),
    )


def test_report_collector_matches_data_set_and_config(tmp_path):
    cfg = config("INPUT.FORMAT", "RGB")
    collector = build_report_collector(cfg, SCENES, dataset=range(2999))
    assert (collector.class_colors, collector.channel_order) == (DatasetCatalog.meta(SCENES).class_colors, "RGB")
    assert len(collector.thumbnail_indices) == 1000 and {0, 2998} < collector.thumbnail_indices
    assert build_report_collector(cfg, SCENES, dataset=range(12)).thumbnail_indices == {*range(12)}
    for one in (cfg, config("TEST.OFFICIAL_SCORES", True)):
        assert build_evaluator(one, VAL, folder=tmp_path, report=collector).report is collector
    assert build_report_collector(config("TEST.REPORT_DATA", False), SCENES, dataset=range(12)) is None


@pytest.mark.parametrize(
    ("name", "wanted", "official", "submission", "kinds"),
    [
        (SCENES, [], True, False, []),
        (SCENES, ["label_png"], False, False, [LabelPngWriter]),
        (SCENES, ["coco_rle"], False, False, [CocoRleWriter]),
        (VAL, ["coco_rle", "label_png"], True, True, [LabelPngWriter, CocoRleWriter]),
        (VAL, [], True, False, [LabelPngWriter]),
        (TEST, [], True, False, []),
        (VOC, [], False, True, [LabelPngWriter]),
    ],
)
def test_each_prediction_format_is_written_once(name, wanted, official, submission, kinds, tmp_path):
    cfg = config("TEST.SAVE_PREDICTIONS", wanted, "TEST.OFFICIAL_SCORES", official)
    writers = build_writers(cfg, name, folder=tmp_path, submission=submission)
    assert [type(writer) for writer in writers] == kinds
    for writer in writers:
        if isinstance(writer, LabelPngWriter):
            assert (writer.folder, writer.benchmark) == (tmp_path / "label_png", DatasetCatalog.meta(name).benchmark)


def test_each_data_set_has_its_own_folder(tmp_path):
    assert predictions_folder(tmp_path, VAL) == tmp_path / "predictions" / VAL
