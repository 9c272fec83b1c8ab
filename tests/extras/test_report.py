"""Report in a browser: figures, hover, selection by mouse and keyboard, phone and dark, labels, hostile names."""

from itertools import pairwise

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from dl_lib.web.report.page import report_page
from dl_lib.web.report.run_data import read_run
from tests.helpers.browser import browser, fits_width
from tests.helpers.evaluated_run import make_evaluated_run

pytestmark = pytest.mark.extras

HOSTILE = "</script><script>document.title='hacked'</script>\"' 語"
NAMES = (HOSTILE, "disc", "علامة", "<b>never</b>")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    runs = [
        make_evaluated_run(folder / name, names=NAMES, ids=[HOSTILE], seed=seed, overrides=["SEED", seed])
        for seed, name in enumerate(("first", '<i>"second" 語'))
    ]
    page = folder / "report.html"
    page.write_text(report_page([read_run(run, among=runs) for run in runs]))
    return page.as_uri()


def all_of(driver, selector):
    return driver.find_elements(By.CSS_SELECTOR, selector)


def one(driver, selector):
    return driver.find_element(By.CSS_SELECTOR, selector)


def gates(driver, figure=0):
    """Gate values that the lattice of a run shows, by edge."""
    lines = all_of(driver, ".route")[figure].find_elements(By.CSS_SELECTOR, "line")
    style = "return [...arguments[0]].map(line => Number(line.style.getPropertyValue('--gate')))"
    values = driver.execute_script(style, lines)
    return dict(zip((line.get_attribute("data-edge") for line in lines), values, strict=True))


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (390, "dark")])
def test_every_figure_is_drawn(address, width, scheme):
    with browser(width=width, scheme=scheme) as driver:
        driver.get(address)
        assert fits_width(driver)
        assert driver.title == 'Report: first, <i>"second" 語'
        images = all_of(driver, "img")
        assert images and all(image.get_property("naturalWidth") > 0 for image in images)
        assert len(all_of(driver, ".plot circle")) == 24 and len(all_of(driver, ".route line")) == 2 * 4
        drawn = [*all_of(driver, ".plot circle"), *all_of(driver, ".route line"), *all_of(driver, ".route rect")]
        assert all(max(shape.size.values()) > 0 for shape in drawn)
        background = one(driver, "body").value_of_css_property("background-color")
        assert background == ("rgba(255, 255, 255, 1)" if scheme == "light" else "rgba(20, 24, 29, 1)")
        assert HOSTILE in one(driver, "table.confusion").text


def test_a_click_selects_an_image_and_its_routes(address):
    with browser() as driver:
        driver.get(address)
        mean = gates(driver)
        point = next(point for point in all_of(driver, ".plot circle.run0") if point.get_attribute("data-image") == "3")
        driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", point)
        driver.execute_script("arguments[0].parentElement.append(arguments[0])", point)  # nothing lies above it
        ActionChains(driver).move_to_element(point).perform()
        assert one(driver, "#tooltip").is_displayed()
        assert one(driver, "#tooltip").text == point.get_attribute("data-text")
        point.click()
        values = driver.execute_script("return JSON.parse(document.getElementById('values0').textContent)")
        for figure, run in enumerate(values["runs"]):
            assert gates(driver, figure) == dict(zip(run["edges"], run["gates"][3], strict=True)) != mean
        assert one(driver, "select.image").get_property("value") == "3"
        assert len(all_of(driver, ".plot circle.selected")) == 2
        assert f"first: {values['runs'][0]['texts'][3]}" in one(driver, ".selected").text
        ActionChains(driver).move_to_element(one(driver, "h1")).perform()
        assert not one(driver, "#tooltip").is_displayed()


def test_an_edge_shows_its_values_when_pointed_at(address):
    with browser() as driver:
        driver.get(address)
        line = all_of(driver, ".route line")[0]
        driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", line)
        ActionChains(driver).move_to_element(line).perform()
        assert one(driver, ".edge").text.startswith(f"{line.get_attribute('data-edge')}: gate ")
        assert "open for" in one(driver, ".edge").text


def test_a_thumbnail_selects_its_image(address):
    with browser() as driver:
        driver.get(address)
        buttons = all_of(driver, ".thumbnails button")
        assert len(buttons) == 12
        buttons[2].send_keys(Keys.ENTER)
        assert one(driver, "select.image").get_property("value") == "2"
        assert [button.get_attribute("aria-pressed") for button in buttons].count("true") == 1
        point = one(driver, ".plot circle[data-image='2']")
        driver.execute_script("arguments[0].parentElement.append(arguments[0])", point)
        ActionChains(driver).move_to_element(point).perform()
        assert one(driver, "#tooltip img").get_property("naturalWidth") > 0
        buttons[2].click()
        assert one(driver, "select.image").get_property("value") == ""


def test_keyboard(address):
    with browser(width=390) as driver:
        driver.get(address)
        mean = gates(driver)
        select = one(driver, "select.image")
        select.send_keys(Keys.ARROW_DOWN)
        assert one(driver, ".shown").text == f"route of {HOSTILE}" and gates(driver) != mean
        select.send_keys(Keys.HOME)
        assert gates(driver) == pytest.approx(mean)
        driver.switch_to.active_element.send_keys(Keys.TAB)
        focused = driver.switch_to.active_element
        assert focused.tag_name in ("summary", "button", "a", "div")
        cell = one(driver, ".confusion td[tabindex='0']")
        cell.send_keys(Keys.ARROW_RIGHT)
        expected = all_of(driver, ".confusion tbody tr:first-child td")[1].get_attribute("aria-label")
        assert one(driver, ".cell").text == expected.replace("  ", " ")
        assert "pixels" in expected


def test_everything_has_a_name_for_screen_readers(address):
    unnamed = """return [...document.querySelectorAll("img, svg, button, select, [role=region], [role=grid]")]
        .filter(e => !e.getAttribute("aria-label") && !e.alt && !e.title && !e.labels?.length && !e.textContent.trim())
        .map(e => e.outerHTML.slice(0, 80))"""
    with browser() as driver:
        driver.get(address)
        assert driver.execute_script(unnamed) == []
        assert one(driver, "html").get_attribute("lang") == "en"
        levels = [int(heading.tag_name[1]) for heading in all_of(driver, "h1, h2, h3")]
        assert levels[0] == 1 and all(next_ - level <= 1 for level, next_ in pairwise(levels))
