"""Screenshots of the report and the demo for the documentation, docs/images/report.png and demo.png.

    PYTHONPATH=. python tools/docs_pages.py output/Quickstart photo.png

Needs the extra `test`, and Chromium with its driver.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from pathlib import Path

from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from dl_lib.prediction.predictor import Predictor
from dl_lib.web.demo.photo_model import PhotoModel
from dl_lib.web.demo.server import HOST, DemoApp, make_demo_server
from dl_lib.web.report.page import report_page
from dl_lib.web.report.run_data import read_run
from tests.helpers.browser import browser

IMAGES = Path(__file__).parents[1] / "docs/images"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder with an evaluation")
    parser.add_argument("photo", type=Path, help="image for the demo")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        page.write_text(report_page([read_run(arguments.run, among=[arguments.run])]))
        with browser(width=1280, height=1240) as driver:
            driver.get(page.as_uri())
            driver.find_elements(By.CSS_SELECTOR, ".thumbnails button")[4].click()
            _save(driver, "report.png")
    server = make_demo_server(
        DemoApp(PhotoModel(Predictor.from_run(arguments.run)), run_name=arguments.run.name), port=0
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with browser(width=1280, height=640) as driver:
        driver.get(f"http://{HOST}:{server.port}")
        driver.find_element(By.ID, "file").send_keys(str(arguments.photo.resolve()))
        WebDriverWait(driver, 30).until(lambda driver: driver.find_element(By.ID, "gflops").text)
        _save(driver, "demo.png")
    server.shutdown()


def _save(driver: Chrome, name: str) -> None:
    driver.save_screenshot(str(IMAGES / name))
    print(f"Wrote {IMAGES / name} ({(IMAGES / name).stat().st_size / 1e3:.0f} kB)")


if __name__ == "__main__":
    main()
