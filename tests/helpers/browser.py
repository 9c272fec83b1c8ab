"""Headless Chromium of the system, with its driver."""

import shutil
from contextlib import contextmanager

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service


@contextmanager
def browser(*, width=1440, height=1000, scheme="light", scale=1):
    """Browser with a window of a size in CSS pixels, each of which is drawn with scale x scale pixels.

    An error in its console fails the test.
    """
    paths = [shutil.which(name) for name in ("chromium", "chromedriver")]
    assert all(paths), "needs chromium and chromedriver; on Debian: apt-get install chromium chromium-driver"
    options = ChromeOptions()
    options.binary_location = paths[0]
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(paths[1]))
    try:
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        yield driver
        assert driver.get_log("browser") == []
    finally:
        driver.quit()


def fits_width(driver):
    """Return whether the page needs no horizontal scrolling."""
    return driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
