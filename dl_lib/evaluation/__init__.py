from dl_lib.evaluation.budget import BudgetTarget
from dl_lib.evaluation.confusion import ConfusionMatrix, count_confusion
from dl_lib.evaluation.costs import CostStatistics, ImageCosts, Spread, summarise_costs
from dl_lib.evaluation.evaluator import EvaluationResult, ImageRecord, SemSegEvaluator
from dl_lib.evaluation.inference import evaluate_datasets, evaluation_mode, inference_on_dataset
from dl_lib.evaluation.metrics import ClassScore, SegmentationMetrics, segmentation_metrics
from dl_lib.evaluation.report import format_markdown, format_text, write_report

__all__ = [
    "BudgetTarget",
    "ClassScore",
    "ConfusionMatrix",
    "CostStatistics",
    "EvaluationResult",
    "ImageCosts",
    "ImageRecord",
    "SegmentationMetrics",
    "SemSegEvaluator",
    "Spread",
    "count_confusion",
    "evaluate_datasets",
    "evaluation_mode",
    "format_markdown",
    "format_text",
    "inference_on_dataset",
    "segmentation_metrics",
    "summarise_costs",
    "write_report",
]
