from dl_lib.evaluation.official.cityscapes import CityscapesEvaluator
from dl_lib.evaluation.predictions.label_files import LabelPngWriter
from dl_lib.evaluation.predictions.writers import CocoRleWriter, PredictionWriter
from dl_lib.evaluation.report.tables import format_markdown, format_text
from dl_lib.evaluation.report.write import write_report
from dl_lib.evaluation.runner.passes import MultiPassModel
from dl_lib.evaluation.runner.run import (
    IncompleteEvaluationError,
    evaluate_datasets,
    evaluation_mode,
    inference_on_dataset,
)
from dl_lib.evaluation.runner.threshold_sweep import sweep_thresholds
from dl_lib.evaluation.scores.budget import BudgetSummary
from dl_lib.evaluation.scores.confusion import ConfusionMatrix, count_confusion
from dl_lib.evaluation.scores.evaluator import SemSegEvaluator
from dl_lib.evaluation.scores.metrics import ClassScore, ImageScores, SegmentationMetrics, segmentation_metrics
from dl_lib.evaluation.scores.prediction import Prediction, read_outputs
from dl_lib.evaluation.scores.result import (
    CostStatistics,
    EvaluationResult,
    ImageRecord,
    OfficialScores,
    summarize_costs,
)
from dl_lib.evaluation.scores.threshold_sweep import SweepPoint, ThresholdSweep

__all__ = [
    "BudgetSummary",
    "CityscapesEvaluator",
    "ClassScore",
    "CocoRleWriter",
    "ConfusionMatrix",
    "CostStatistics",
    "EvaluationResult",
    "ImageRecord",
    "ImageScores",
    "IncompleteEvaluationError",
    "LabelPngWriter",
    "MultiPassModel",
    "OfficialScores",
    "Prediction",
    "PredictionWriter",
    "SegmentationMetrics",
    "SemSegEvaluator",
    "SweepPoint",
    "ThresholdSweep",
    "count_confusion",
    "evaluate_datasets",
    "evaluation_mode",
    "format_markdown",
    "format_text",
    "inference_on_dataset",
    "read_outputs",
    "segmentation_metrics",
    "summarize_costs",
    "sweep_thresholds",
    "write_report",
]
