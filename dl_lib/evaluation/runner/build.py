"""What `TEST` asks for: who scores the predictions on a data set, and who writes them down."""

from __future__ import annotations

from pathlib import Path

from fvcore.common.config import CfgNode

from dl_lib.data import DatasetCatalog, DatasetMeta
from dl_lib.evaluation.official.cityscapes import CityscapesEvaluator
from dl_lib.evaluation.predictions.label_files import LabelPngWriter
from dl_lib.evaluation.predictions.writers import CocoRleWriter, PredictionWriter
from dl_lib.evaluation.scores.evaluator import SemSegEvaluator

__all__ = ["build_evaluator", "build_writers", "label_png_folder", "predictions_folder"]

_LABEL_PNG_FOLDER = "label_png"


def predictions_folder(output_dir: Path, dataset_name: str) -> Path:
    """Where the predictions on a data set go."""
    return output_dir / "predictions" / dataset_name


def label_png_folder(folder: Path) -> Path:
    """Where the label PNGs go, of what goes to the folder for a data set's predictions."""
    return folder / _LABEL_PNG_FOLDER


def build_evaluator(cfg: CfgNode, dataset_name: str, *, folder: Path) -> SemSegEvaluator:
    """The evaluator of a data set; with official scores, where these are asked for and exist.

    Args:
        cfg: TEST is read.
        dataset_name: as registered.
        folder: for its predictions.
    """
    meta, test = DatasetCatalog.meta(dataset_name), cfg.TEST
    if _is_scored_officially(cfg, meta):
        return CityscapesEvaluator(
            dataset_name,
            folder=label_png_folder(folder),
            absent_rule=test.ABSENT_CLASSES,
            boundary_iou=test.BOUNDARY_IOU,
        )
    return SemSegEvaluator(
        dataset_name,
        class_names=meta.class_names,
        ignore_value=meta.ignore_value,
        labelled=meta.labelled,
        absent_rule=test.ABSENT_CLASSES,
        boundary_iou=test.BOUNDARY_IOU,
    )


def build_writers(cfg: CfgNode, dataset_name: str, *, folder: Path, submission: bool = False) -> list[PredictionWriter]:
    """Those that `TEST.SAVE_PREDICTIONS` names, and label PNGs also where something is made of them afterwards.

    Args:
        cfg: TEST is read.
        dataset_name: as registered.
        folder: for its predictions.
        submission: whether a submission is made of them.
    """
    meta, wanted = DatasetCatalog.meta(dataset_name), cfg.TEST.SAVE_PREDICTIONS
    writers: list[PredictionWriter] = []
    if "label_png" in wanted or submission or _is_scored_officially(cfg, meta):
        writers.append(LabelPngWriter(label_png_folder(folder), benchmark=meta.benchmark))
    if "coco_rle" in wanted:
        writers.append(CocoRleWriter(folder, class_names=meta.class_names))
    return writers


def _is_scored_officially(cfg: CfgNode, meta: DatasetMeta) -> bool:
    return cfg.TEST.OFFICIAL_SCORES and meta.benchmark == "cityscapes" and meta.labelled
