"""Demo in a browser: photos, the threshold, errors, two clients, phone and dark, keyboard, and Ctrl-C."""

import http.client
import io
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.helpers.browser import browser, fits_width
from tests.helpers.prediction_run import CLASSES, make_dataset, make_run

pytestmark = pytest.mark.extras


@contextmanager
def running_demo(folder):
    """Address of a running demo, which Ctrl-C ends."""
    run = make_run(folder / "run", data=make_dataset(folder / "data"), gate_logit=0.5)
    command = [sys.executable, "-m", "dl_lib.cli.main", "demo", str(run), "--port", "0"]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it, and so would the demo
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        yield next(match[0] for line in process.stdout if (match := re.search(r"http://\S+", line)))
        process.send_signal(signal.SIGINT)
        try:
            output, errors = process.communicate(timeout=30)
        finally:
            process.kill()  # if it did not end
        assert (process.returncode, output, errors) == (0, "Demo ended\n", "")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with running_demo(tmp_path_factory.mktemp("demo")) as address:
        yield address


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    path = tmp_path_factory.mktemp("photo") / "<b>photo 語.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)).save(path)
    return path


def text(driver, name):
    return driver.find_element(By.ID, name).text


def send(driver, photo):
    driver.find_element(By.ID, "file").send_keys(str(photo))
    WebDriverWait(driver, 20).until(lambda _: text(driver, "status") == photo.name)


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_a_photo_is_predicted_in_two_windows(address, photo, width, scheme):
    with browser(width=width, scheme=scheme) as first, browser(width=width, scheme=scheme) as second:
        for driver in (first, second):
            driver.get(address)
            send(driver, photo)
        for driver in (first, second):
            assert "GFLOPs" in text(driver, "gflops")
            assert text(driver, "unchanged") == "100.0 %"
            assert {entry.split()[0] for entry in text(driver, "classes").splitlines()} <= {*CLASSES}
            overlay = driver.find_element(By.ID, "overlay")
            assert overlay.get_property("naturalWidth") == 64
            lines = driver.find_elements(By.CSS_SELECTOR, "#route line")
            assert len(lines) == 4
            assert all(max(line.size.values()) > 0 for line in lines)
            assert fits_width(driver)


def test_the_threshold_changes_the_cost_by_keyboard(address, photo):
    with browser() as driver:
        driver.get(address)
        send(driver, photo)
        before = text(driver, "gflops")
        driver.find_element(By.ID, "threshold").send_keys(Keys.END)
        WebDriverWait(driver, 20).until(lambda _: not driver.find_elements(By.CSS_SELECTOR, "#route line.open"))
        assert text(driver, "threshold-value") == "0.99"
        assert text(driver, "gflops") != before
        driver.find_element(By.ID, "reset").send_keys(Keys.ENTER)
        WebDriverWait(driver, 20).until(lambda _: text(driver, "gflops") == before)


def test_a_file_that_is_no_image_gives_a_message(address, photo, tmp_path):
    other = tmp_path / "notes.txt"
    other.write_text("no image")
    with browser() as driver:
        driver.get(address)
        driver.find_element(By.ID, "file").send_keys(str(other))
        WebDriverWait(driver, 20).until(lambda _: "the photo" in text(driver, "status"))
        assert not driver.find_element(By.ID, "result").is_displayed()
        driver.get_log("browser")  # the refused request is logged by Chromium
        send(driver, photo)
        assert driver.find_element(By.ID, "result").is_displayed()


def test_ctrl_c_ends_the_demo_while_a_photo_is_predicted(tmp_path):
    large = io.BytesIO()
    Image.new("RGB", (5000, 5000)).save(large, "PNG")
    with running_demo(tmp_path) as address:
        client = http.client.HTTPConnection(address.removeprefix("http://"))
        client.request("POST", "/predict", large.getvalue())
        time.sleep(3)  # until torch has begun
    with pytest.raises(http.client.RemoteDisconnected):
        client.getresponse()
