"""Report of a run on 500 images of the quickstart's training set: size of the page, and times to write and to open it.

    PYTHONPATH=. python tools/benchmarks/report_page.py output/Quickstart

Needs the extra `test`, and Chromium with its driver. The time to open is that until the page's load event, in a browser
that has opened it before.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from torch.utils.data import Subset

from dl_lib.data import DatasetCatalog
from dl_lib.evaluation import evaluate_datasets
from dl_lib.experiment.trained_run import load_trained_model, load_trained_run
from dl_lib.utils.logger import setup_logger
from dl_lib.web.report.page import report_page
from dl_lib.web.report.run_data import read_run
from tests.helpers.browser import browser

SCENES, IMAGES, REPEATS = "varied_digit_scenes_train", 500, 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="run folder of the quickstart")
    run = parser.parse_args().run
    setup_logger()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _evaluate(run, folder)
        page = folder / "report.html"
        seconds = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            page.write_text(report_page([read_run(folder, among=[folder])]))
            seconds.append(time.perf_counter() - start)
        print(f"{IMAGES} images, page of {page.stat().st_size / 1e6:.1f} MB")
        print(f"written in {statistics.median(seconds):.2f} s (median of {REPEATS})")
        print(f"opened in {_seconds_to_open(page):.2f} s (median of {REPEATS})")


def _evaluate(run: str, folder: Path) -> None:
    subset = Subset(DatasetCatalog.get(SCENES), range(IMAGES))
    DatasetCatalog.register("report_scenes", lambda: subset, DatasetCatalog.meta(SCENES))
    cfg = load_trained_run(run, ["DATASETS.TEST=[report_scenes]"]).cfg
    evaluate_datasets(cfg, load_trained_model(cfg), folder)


def _seconds_to_open(page: Path) -> float:
    loaded = "const [entry] = performance.getEntriesByType('navigation'); return entry.loadEventEnd / 1000"
    with browser() as driver:
        seconds = []
        for _ in range(REPEATS + 1):
            driver.get(page.as_uri())
            seconds.append(driver.execute_script(loaded))
    return statistics.median(seconds[1:])


if __name__ == "__main__":
    main()
