"""Screenshots of the documentation: each is shown in the README, and terminals show the text of a command."""

import re
from html import unescape
from pathlib import Path

import pytest
from docs_pages import IMAGES, terminal_page

README = Path(__file__).parents[2] / "README.md"
FIGURES = ("report", "demo", "plot_routes", "tensorboard", "inspect", "replay")


@pytest.mark.parametrize("name", FIGURES)
def test_figure_is_in_the_readme(name):
    assert (IMAGES / f"{name}.png").is_file()
    assert f"](docs/images/{name}.png)" in README.read_text(encoding="utf-8")


def test_terminal_shows_the_output_as_text():
    output = "layer <-- 1 & 2\n<b>{not a field}</b>\n"
    page = terminal_page(["dl_lib", "replay", "a run"], output)
    (shown,) = re.findall("<pre>(.*)</pre>", page, re.DOTALL)
    assert unescape(re.sub("<[^>]*>", "", shown)) == f"$ dl_lib replay 'a run'\n{output}"
