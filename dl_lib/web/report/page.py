"""Report of one or several runs as one HTML page that needs no other file and no network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from dl_lib.evaluation.report.tables import COST_LEGEND
from dl_lib.visualization.figure import COLORS
from dl_lib.web.pages.templating import render
from dl_lib.web.report.calibration import calibration_of
from dl_lib.web.report.classes import class_rows
from dl_lib.web.report.config_table import config_rows
from dl_lib.web.report.confusion import confusion_matrix
from dl_lib.web.report.explorer import explorer
from dl_lib.web.report.overview import COLUMNS, curves_of, overview_rows
from dl_lib.web.report.routing import routing_of
from dl_lib.web.report.run_data import DatasetResult, RunData
from dl_lib.web.report.samples import class_legend, sample_groups

__all__ = ["report_page"]


def report_page(runs: Sequence[RunData]) -> str:
    """Return the page; every text of the runs is escaped, and a content security policy admits its own script only.

    Args:
        runs: Runs in the order of the page, at most one per color of `visualization.figure.COLORS`.
    """
    script = files("dl_lib.web.report").joinpath("templates/report.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    datasets = dict.fromkeys(name for run in runs for name in run.datasets)
    return render(
        "report.html",
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        colors=COLORS,
        version=version("dl_lib"),
        runs=runs,
        columns=COLUMNS,
        overview=overview_rows(runs),
        cost_legend=COST_LEGEND,
        curves=curves_of(runs),
        datasets=[
            _dataset(name, {run.name: run.datasets[name] for run in runs if name in run.datasets}) for name in datasets
        ],
        config=config_rows(runs),
    )


def _dataset(name: str, results: Mapping[str, DatasetResult]) -> dict[str, Any]:
    return {
        "name": name,
        "runs": [*results],
        "classes": class_rows(results),
        "confusion": {run: matrix for run, result in results.items() if (matrix := confusion_matrix(result))},
        "routing": {run: routing for run, result in results.items() if (routing := routing_of(result, run=run))},
        "explorer": explorer(results),
        "legend": class_legend(results),
        "samples": sample_groups(results),
        "calibration": calibration_of(results),
    }
