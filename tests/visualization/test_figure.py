"""Shared parts of figures: independence of global state, deterministic files, text that fits."""

import functools
import subprocess
import sys
import warnings

import cv2
import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dl_lib.visualization import FIGURE_SUFFIXES
from dl_lib.visualization import figure as figure_module
from dl_lib.visualization.figure import (
    LABEL_SIZE,
    RAMP,
    fit_text,
    printable,
    save_figure,
    shorten,
    text_width,
    to_image,
)
from dl_lib.visualization.lr_finder import draw_lr_finder

LAZY_IMPORT = """
import sys
import dl_lib, dl_lib.engine, dl_lib.evaluation, dl_lib.solver, dl_lib.data, dl_lib.visualization
import dl_lib.cli.train, dl_lib.cli.evaluate, dl_lib.cli.plot_metrics, dl_lib.cli.find_lr, dl_lib.cli.browse_dataset
loaded = [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]
assert not loaded, loaded
from dl_lib.visualization import confusion_matrix, curves, lr_finder, overlay, routing, zoo
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""


def draw(title="Learning rate range test"):
    return draw_lr_finder([0.1, 1.0, 10.0], [3.0, 2.0, 5.0], [3.0, 2.5, 4.0], suggestion=0.3, title=title)


def test_matplotlib_is_loaded_by_figures_only_and_pyplot_never():
    subprocess.run([sys.executable, "-c", LAZY_IMPORT], check=True)


def test_user_settings_neither_change_nor_matter():
    before = to_image(draw())
    with matplotlib.rc_context({"font.size": 30, "axes.grid": False, "savefig.dpi": 20, "text.usetex": True}):
        settings = dict(matplotlib.rcParams)
        np.testing.assert_array_equal(to_image(draw()), before)
        assert dict(matplotlib.rcParams) == settings


@pytest.mark.parametrize("suffix", FIGURE_SUFFIXES)
def test_equal_figures_give_equal_files(tmp_path, suffix):
    for name in ("one", "other"):
        save_figure(draw(), tmp_path / "new" / f"{name}{suffix}")
    one, other = ((tmp_path / "new" / f"{name}{suffix}").read_bytes() for name in ("one", "other"))
    assert one == other
    assert one.startswith({".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}[suffix])


def test_a_png_has_the_pixels_of_the_image(tmp_path):
    figure = draw()
    save_figure(figure, tmp_path / "figure.png")
    image = to_image(figure)
    assert image.dtype == np.uint8 and image.shape[2] == 3
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / "figure.png"))[..., ::-1], image)


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"path must end in one of .png, .svg, .pdf. Received: path=.*figure.gif'$"):
        save_figure(draw(), tmp_path / "figure.gif")
    assert not list(tmp_path.iterdir())


def test_the_ramp_gets_darker():
    luminance = RAMP(np.linspace(0, 1, 100))[:, :3] @ (0.299, 0.587, 0.114)
    assert (np.diff(luminance) <= 1e-6).all() and luminance[0] - luminance[-1] > 0.6


@given(st.text())
def test_any_text_can_be_drawn_without_warnings(text):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert text_width(printable(text), size=LABEL_SIZE) >= 0


def test_characters_without_glyph_are_escaped():
    assert printable("дорога, naïve, $x_1$, طريق") == "дорога, naïve, $x_1$, طريق"
    assert printable("a\nb\t\x00") == r"a\nb\t\x00"
    assert printable("\U0010fffd\udc80") == r"\U0010fffd\udc80"


def test_fallback_fonts_are_used_where_installed(monkeypatch):
    """STIXGeneral comes with matplotlib and has a hiragana that DejaVu Sans does not have."""
    assert printable("の") == r"\u306e"
    monkeypatch.setattr("dl_lib.visualization.figure._FALLBACK_FONTS", ("Not Installed", "STIXGeneral"))
    for cached in (figure_module._font_families, figure_module._glyphs):
        monkeypatch.setattr(figure_module, cached.__name__, functools.cache(cached.__wrapped__))
    assert printable("の") == "の"
    assert to_image(draw("の")).shape == to_image(draw("x")).shape


@given(st.text("ab W道_-", max_size=80), st.floats(0.3, 4))
def test_wrapped_lines_fit_and_keep_the_text(text, width):
    lines = fit_text(text, width=width, size=LABEL_SIZE).split("\n")
    assert all(len(line) <= 1 or text_width(line, size=LABEL_SIZE) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == printable(text).replace(" ", "")


@given(st.text(), st.integers(1, 30))
def test_shortened_texts_keep_both_ends(text, length):
    short = shorten(text, length)
    assert len(short) <= length
    start, ellipsis, end = short.partition("…") if "…" not in printable(text) else (short, "", "")
    assert printable(text).startswith(start) and printable(text).endswith(end) if ellipsis else True
