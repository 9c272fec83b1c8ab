"""Screenshots of pages and terminals for the documentation, docs/images/NAME.png.

    PYTHONPATH=. python tools/docs_pages.py report output/Quickstart
    PYTHONPATH=. python tools/docs_pages.py demo output/Quickstart photo.png
    PYTHONPATH=. python tools/docs_pages.py trackers output/Quickstart
    PYTHONPATH=. python tools/docs_pages.py inspect
    PYTHONPATH=. python tools/docs_pages.py replay output/Diverged

Needs the extra `test`, and Chromium with its driver.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from io import BytesIO
from pathlib import Path

from markupsafe import Markup
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from dl_lib.prediction.predictor import Predictor
from dl_lib.web.demo.photo_model import PhotoModel
from dl_lib.web.demo.server import HOST, DemoApp, make_demo_server
from dl_lib.web.report.page import report_page
from dl_lib.web.report.run_data import read_run
from tests.helpers.browser import browser

IMAGES = Path(__file__).parents[1] / "docs/images"
TIMEOUT_SECONDS = 30
TERMINAL_COLORS = 16  # of text on a background
TENSORBOARD_TAGS = "^total_loss$|/(mIoU|sample|route)$"
TENSORBOARD_SETTINGS = {
    "ignoreOutliers": False,
    "scalarSmoothing": 0,
    "sideBarWidthInPercent": 18,
    "stepSelectorEnabled": False,
    "timeSeriesCardMinWidth": 450,
    "timeSeriesSettingsPaneOpened": False,
}
TERMINAL = Markup("""\
<!DOCTYPE html><meta charset="utf-8"><style>
pre {{ width: max-content; margin: 0; padding: 12px 16px; font: 13px/1.35 monospace }}
pre {{ color: #e6edf3; background: #10151c }}
b {{ color: #7ee787 }}
</style><pre><b>$ {command}</b>
{output}</pre>
""")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    figures = parser.add_subparsers(dest="figure", required=True)
    for name, paths in {"report": ["run"], "demo": ["run", "photo"], "trackers": ["run"], "replay": ["run"]}.items():
        figure = figures.add_parser(name)
        for path in paths:
            figure.add_argument(path, type=Path)
    figures.add_parser("inspect")
    arguments = parser.parse_args()
    if arguments.figure == "report":
        save_report(arguments.run)
    elif arguments.figure == "demo":
        save_demo(arguments.run, photo=arguments.photo)
    elif arguments.figure == "trackers":
        save_tensorboard(arguments.run)
    elif arguments.figure == "inspect":
        save_terminal("inspect", "Quickstart")
    else:
        save_terminal("replay", str(arguments.run))


def save_report(run: Path) -> None:
    """Save the top of the report of an evaluated run."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        page.write_text(report_page([read_run(run, among=[run])]))
        with browser(width=1280, height=1240) as driver:
            driver.get(page.as_uri())
            driver.find_elements(By.CSS_SELECTOR, ".thumbnails button")[4].click()
            _save(driver, "report")


def save_demo(run: Path, *, photo: Path) -> None:
    """Save the demo of a run with a photo."""
    server = make_demo_server(DemoApp(PhotoModel(Predictor.from_run(run)), run_name=run.name), port=0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with browser(width=1280, height=640) as driver:
        driver.get(f"http://{HOST}:{server.port}")
        driver.find_element(By.ID, "file").send_keys(str(photo.resolve()))
        WebDriverWait(driver, TIMEOUT_SECONDS).until(lambda driver: driver.find_element(By.ID, "gflops").text)
        _save(driver, "demo")
    server.shutdown()


def save_tensorboard(run: Path) -> None:
    """Save TensorBoard with curves and figures of a run with `VIS_PERIOD`."""
    from tensorboard.program import TensorBoard  # warns about its dependencies

    with tempfile.TemporaryDirectory() as folder, browser(width=1280, height=845) as driver:
        shown = Path(folder, run.name)  # TensorBoard shows names relative to its folder
        shown.mkdir()
        for events in run.glob("events.out.tfevents.*"):
            shutil.copy(events, shown)
        server = TensorBoard()
        server.configure(logdir=folder, host=HOST, port=0)
        settings = f"localStorage.setItem('_tb_global_settings', {json.dumps(json.dumps(TENSORBOARD_SETTINGS))})"
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": settings})
        driver.get(f"{server.launch()}?tagFilter={TENSORBOARD_TAGS}#timeseries")
        WebDriverWait(driver, TIMEOUT_SECONDS).until(_has_figures)
        time.sleep(2)  # curves are drawn without an event to wait for
        _save(driver, "tensorboard")
        driver.get_log("browser")  # warnings about WebGL, which `browser` would take for errors


def save_terminal(command: str, *arguments: str) -> None:
    """Run a command of dl_lib and save its output."""
    words = [sys.executable, "-m", "dl_lib.cli.main", command, *arguments]
    output = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    with tempfile.TemporaryDirectory() as folder, browser(width=1280, height=1000, scale=2) as driver:
        page = Path(folder, "terminal.html")
        page.write_text(terminal_page(["dl_lib", command, *arguments], output), encoding="utf-8")
        driver.get(page.as_uri())
        _save(driver.find_element(By.TAG_NAME, "pre"), command, colors=TERMINAL_COLORS)


def terminal_page(command: list[str], output: str) -> str:
    """Return a page that shows a command and its output as a terminal does."""
    return TERMINAL.format(command=shlex.join(command), output=output)


def _has_figures(driver: Chrome) -> bool:
    images = driver.find_elements(By.CSS_SELECTOR, "image-card img")
    return len(images) == 2 and all(image.get_property("naturalWidth") for image in images)


def _save(shown: Chrome | WebElement, name: str, *, colors: int | None = None) -> None:
    path = IMAGES / f"{name}.png"
    image = Image.open(BytesIO(shown.get_screenshot_as_png() if isinstance(shown, Chrome) else shown.screenshot_as_png))
    image = image.convert("RGB")
    (image if colors is None else image.quantize(colors)).save(path, optimize=True)
    print(f"Wrote {path} ({path.stat().st_size / 1e3:.0f} kB)")


if __name__ == "__main__":
    main()
