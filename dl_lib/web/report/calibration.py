"""Calibration of the report: expected calibration error of each run, and the reliability diagram of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dl_lib.evaluation.scores.calibration import CalibrationCounts
from dl_lib.visualization.calibration import Reliability, draw_reliability
from dl_lib.visualization.figure import to_bytes
from dl_lib.web.pages.embedding import data_uri
from dl_lib.web.report.run_data import DatasetResult
from dl_lib.web.report.values import percent

__all__ = ["calibration_of"]


def calibration_of(results: Mapping[str, DatasetResult]) -> dict[str, Any] | None:
    """Return the error of each run in percent, and the address of the diagram; None without calibration counts.

    Args:
        results: Evaluation on one dataset by run.
    """
    counts = {
        run: result.data.calibration
        for run, result in results.items()
        if result.data is not None and result.data.calibration is not None
    }
    if not counts:
        return None
    figure = draw_reliability({run: reliability(of_run) for run, of_run in counts.items()})
    return {
        "errors": [(run, percent(of_run.ece)) for run, of_run in counts.items()],
        "image": data_uri(to_bytes(figure, suffix=".svg"), media_type="image/svg+xml"),
    }


def reliability(counts: CalibrationCounts) -> Reliability:
    """Return the means of the bins."""
    pixels = np.where(counts.pixels > 0, counts.pixels, np.nan)
    return Reliability(
        confidence=counts.confidence / pixels,
        accuracy=counts.correct / pixels,
        pixel_ratio=counts.pixels / counts.pixels.sum(),
    )
