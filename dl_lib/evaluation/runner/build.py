"""Construction of evaluators and prediction writers from the configuration (`TEST`)."""

from __future__ import annotations

from collections.abc import Sized
from pathlib import Path

from fvcore.common.config import CfgNode

from dl_lib.data import DatasetCatalog, DatasetMeta
from dl_lib.data.raw_dataset import sampled_indices
from dl_lib.evaluation.official.cityscapes import CityscapesEvaluator
from dl_lib.evaluation.predictions.label_files import LabelPngWriter
from dl_lib.evaluation.predictions.writers import CocoRleWriter, PredictionWriter
from dl_lib.evaluation.scores.evaluator import SemSegEvaluator
from dl_lib.evaluation.scores.report_collector import ReportCollector
from dl_lib.evaluation.scores.report_data import MAX_THUMBNAILS
from dl_lib.utils.run_files import PREDICTIONS_NAME

__all__ = [
    "build_evaluator",
    "build_plain_evaluator",
    "build_report_collector",
    "build_writers",
    "label_png_folder",
    "predictions_folder",
]

_LABEL_PNG_FOLDER = "label_png"


def predictions_folder(output_dir: Path, dataset_name: str) -> Path:
    """Return the folder for the predictions on a dataset."""
    return output_dir / PREDICTIONS_NAME / dataset_name


def label_png_folder(folder: Path) -> Path:
    """Return the folder for label PNGs in a predictions folder."""
    return folder / _LABEL_PNG_FOLDER


def build_evaluator(
    cfg: CfgNode, dataset_name: str, *, folder: Path, report: ReportCollector | None = None
) -> SemSegEvaluator:
    """Build the evaluator of a dataset, with official scores of the predictions in `folder` if requested."""
    meta = DatasetCatalog.meta(dataset_name)
    boundary_iou = cfg.TEST.BOUNDARY_IOU
    if _has_official_scores(cfg, meta):
        return CityscapesEvaluator(
            dataset_name,
            folder=label_png_folder(folder),
            absent_rule=cfg.TEST.ABSENT_CLASSES,
            boundary_iou=boundary_iou,
            report=report,
        )
    return build_plain_evaluator(cfg, dataset_name, boundary_iou=boundary_iou, report=report)


def build_plain_evaluator(
    cfg: CfgNode, dataset_name: str, *, boundary_iou: bool = False, report: ReportCollector | None = None
) -> SemSegEvaluator:
    """Build the evaluator of a dataset without official scores."""
    meta = DatasetCatalog.meta(dataset_name)
    return SemSegEvaluator(
        dataset_name,
        class_names=meta.class_names,
        ignore_value=meta.ignore_value,
        labelled=meta.labelled,
        absent_rule=cfg.TEST.ABSENT_CLASSES,
        boundary_iou=boundary_iou,
        report=report,
    )


def build_report_collector(cfg: CfgNode, dataset_name: str, *, dataset: Sized) -> ReportCollector | None:
    """Build the collector of the data for a report (`TEST.REPORT_DATA`) on a dataset; None if not requested."""
    if not cfg.TEST.REPORT_DATA:
        return None
    meta = DatasetCatalog.meta(dataset_name)
    return ReportCollector(
        thumbnail_indices=sampled_indices(dataset, limit=MAX_THUMBNAILS),
        class_colors=meta.class_colors,
        ignore_value=meta.ignore_value,
        channel_order=cfg.INPUT.FORMAT,
    )


def build_writers(cfg: CfgNode, dataset_name: str, *, folder: Path, submission: bool = False) -> list[PredictionWriter]:
    """Build the writers in `TEST.SAVE_PREDICTIONS`, and a label PNG writer for official scores and submissions."""
    meta, formats = DatasetCatalog.meta(dataset_name), cfg.TEST.SAVE_PREDICTIONS
    writers: list[PredictionWriter] = []
    if "label_png" in formats or submission or _has_official_scores(cfg, meta):
        writers.append(LabelPngWriter(label_png_folder(folder), benchmark=meta.benchmark))
    if "coco_rle" in formats:
        writers.append(CocoRleWriter(folder, class_names=meta.class_names))
    return writers


def _has_official_scores(cfg: CfgNode, meta: DatasetMeta) -> bool:
    return cfg.TEST.OFFICIAL_SCORES and meta.benchmark == "cityscapes" and meta.labelled
