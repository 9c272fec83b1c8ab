"""Confusion matrix of the report: ratio of each true class in the color of a cell, pixels in its text."""

from __future__ import annotations

from typing import Any

import numpy as np

from dl_lib.web.report.run_data import DatasetResult

__all__ = ["MOST_CLASSES", "confusion_matrix"]

MOST_CLASSES = 60  # of a matrix that can be read; of more, those with the most labelled pixels are shown


def confusion_matrix(result: DatasetResult) -> dict[str, Any] | None:
    """Return the class names and the cells of each row; None without a confusion matrix.

    A cell has the ratio to the labelled pixels of its row, and its text.
    """
    if result.confusion is None:
        return None
    names, pixels = result.confusion
    labelled = pixels.sum(axis=1)
    shown = np.sort(np.argsort(-labelled, kind="stable")[:MOST_CLASSES]).tolist()
    ratios = pixels / np.maximum(labelled, 1)[:, None]
    rows = [
        {
            "name": names[true],
            "cells": [
                {
                    "ratio": float(ratios[true, predicted]),
                    "text": f"{names[true]} predicted as {names[predicted]}: {pixels[true, predicted]:,} pixels, "
                    f"{100 * ratios[true, predicted]:.2f} % of {names[true]}",
                }
                for predicted in shown
            ],
        }
        for true in shown
    ]
    return {"names": [names[index] for index in shown], "rows": rows, "num_classes": len(names)}
