"""Shared parts of all figures: style, text that fits, and deterministic output.

Figures are `matplotlib.figure.Figure` objects on the Agg canvas. pyplot is never imported, and the user's rcParams are
neither used nor changed: drawing and saving happen in a local context that starts from matplotlib's defaults. All
lengths are in inches, font sizes in points.
"""

from __future__ import annotations

import functools
import io
import re
import textwrap
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, ParamSpec

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from dl_lib.utils.files import write_atomically
from dl_lib.visualization import FIGURE_SUFFIXES

__all__ = [
    "CAPTION_SIZE",
    "COLORS",
    "FAINT_COLOR",
    "LABEL_SIZE",
    "RAMP",
    "TEXT_COLOR",
    "TITLE_SIZE",
    "add_axes",
    "add_text",
    "add_title",
    "figure_function",
    "fit_text",
    "new_figure",
    "plain_numbers",
    "printable",
    "save_figure",
    "shorten",
    "text_height",
    "text_width",
    "to_bytes",
    "to_image",
]

# Okabe and Ito (https://jfly.uni-koeln.de/color/), without the two colors that are too light on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
RAMP = ListedColormap(  # luminance falls monotonically: readable with any color vision and in grayscale print
    matplotlib.colormaps["Blues"](np.linspace(0.15, 1, 256)), name="ramp"
)
TEXT_COLOR, FAINT_COLOR, _GRID_COLOR = "#2c3440", "#9aa3b0", "#e3e6eb"
TITLE_SIZE, LABEL_SIZE, CAPTION_SIZE = 11.0, 9.0, 8.0

_LINE_SPACING = 1.4  # of lines in titles and captions, as a multiple of the font size
_DPI = 150  # a figure of 8.8 in is 1,320 pixels wide, 1.5 times the width of a README
_STYLE: dict[Any, Any] = {
    "font.size": LABEL_SIZE,
    "axes.titlesize": LABEL_SIZE,
    "figure.titlesize": TITLE_SIZE,
    "legend.fontsize": CAPTION_SIZE,
    "xtick.labelsize": CAPTION_SIZE,
    "ytick.labelsize": CAPTION_SIZE,
    **dict.fromkeys(("text.color", "axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), TEXT_COLOR),
    **dict.fromkeys(("axes.edgecolor", "xtick.color", "ytick.color"), FAINT_COLOR),
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": _GRID_COLOR,
    "legend.frameon": False,
    "text.parse_math": False,  # class and run names may contain "$"
    "text.hinting": "none",  # hinted widths differ by up to 8 % between resolutions
    "pdf.fonttype": 42,  # TrueType, which publishers require, instead of Type 3
    "svg.hashsalt": "dl_lib",  # otherwise element ids differ from run to run
}
_FALLBACK_FONTS = (  # used where installed, for characters that DejaVu Sans, which matplotlib ships, does not have
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei"),
    *("WenQuanYi Micro Hei", "Microsoft YaHei", "PingFang SC", "Hiragino Sans GB", "Arial Unicode MS"),
    *("Noto Sans Arabic", "Noto Sans Devanagari", "Noto Emoji", "Segoe UI Emoji", "Symbola", "Unifont"),
)
_METADATA: dict[str, dict[str, Any]] = {  # no dates and versions: equal figures give equal files
    ".png": {"Software": None},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}

P = ParamSpec("P")


def figure_function(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Make a function draw in the style of this package."""

    @functools.wraps(draw)
    def draw_in_style(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with _style():
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()  # tick labels are created in the first draw, with the rcParams of then
            figure.set_layout_engine("none")  # keeps the positions of the first draw
        return figure

    return draw_in_style


def new_figure(width: float, height: float, *, dpi: int = _DPI) -> Figure:
    """Return an empty figure on the Agg canvas."""
    figure = Figure((width, height), dpi=dpi)
    FigureCanvasAgg(figure)
    return figure


def add_axes(figure: Figure, *, left: float, top: float, width: float, height: float) -> Axes:
    """Add axes at a position in inches from the upper left corner of the figure."""
    total_width, total_height = figure.get_size_inches()
    bottom = 1 - (top + height) / total_height
    return figure.add_axes((left / total_width, bottom, width / total_width, height / total_height))


def add_text(figure: Figure, text: str, *, left: float, top: float, size: float = LABEL_SIZE, **layout: Any) -> None:
    """Add text whose upper left corner is at a position in inches from the upper left corner of the figure.

    `layout` gives another alignment or a rotation, as in `matplotlib.text.Text`.
    """
    width, height = figure.get_size_inches()
    figure.text(left / width, 1 - top / height, text, **{"va": "top", "fontsize": size, **layout})


def add_title(figure: Figure, title: str) -> None:
    """Add a title that fits the width of the figure, for a figure with a layout engine."""
    figure.suptitle(fit_text(title, width=figure.get_figwidth() - 0.3, size=TITLE_SIZE), x=0.01, ha="left")


def plain_numbers(axis: Axis) -> None:
    """Write the tick labels of an axis without offsets and mathtext: 0.05, 12000, 1e-5."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: re.sub(r"e([+-])0*", r"e\1", f"{value:g}")))
    axis.set_minor_formatter(NullFormatter())


def save_figure(figure: Figure, path: str | PathLike[str]) -> None:
    """Write a figure in the format of the file's suffix; the write is atomic, and equal figures give equal bytes.

    Missing parent folders are created.

    Raises:
        ValueError: If the suffix is not one of `FIGURE_SUFFIXES`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FIGURE_SUFFIXES:
        raise ValueError(f"path must end in one of {', '.join(FIGURE_SUFFIXES)}. Received: path={str(path)!r}")
    write_atomically(path, to_bytes(figure, suffix=suffix))


def to_bytes(figure: Figure, *, suffix: str) -> bytes:
    """Return the content of a figure's file; equal figures give equal bytes.

    Args:
        figure: The figure.
        suffix: Suffix of the file, one of `FIGURE_SUFFIXES`.
    """
    file = io.BytesIO()
    with _style():
        figure.savefig(file, format=suffix[1:], metadata=_METADATA[suffix])
    return file.getvalue()


def to_image(figure: Figure) -> npt.NDArray[np.uint8]:
    """Render a figure to an (H, W, 3) uint8 RGB array."""
    canvas = FigureCanvasAgg(figure)
    with _style():
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def text_width(text: str, *, size: float) -> float:
    """Return the width of a line of text in inches."""
    font = font_manager.FontProperties(family=list(_font_families()), size=size)
    with matplotlib.rc_context({"text.hinting": _STYLE["text.hinting"]}):
        width, _, _ = RendererAgg(1, 1, _DPI).get_text_width_height_descent(text, font, ismath=False)
    return float(width) / _DPI


def text_height(text: str, *, size: float) -> float:
    """Return the height of lines of text in inches, with the space below; 0 for an empty text."""
    return (text.count("\n") + 1) * _LINE_SPACING * size / 72 if text else 0.0


def printable(text: str) -> str:
    """Replace characters without a glyph in the installed fonts, and control characters, by unicode escapes."""
    return "".join(
        character
        if ord(character) in _glyphs() and unicodedata.category(character) != "Cc"
        else character.encode("unicode_escape").decode()
        for character in text
    )


def shorten(text: str, length: int) -> str:
    """Return a printable text of at most `length` characters; an ellipsis replaces the middle of a longer one."""
    text = printable(text)
    if len(text) <= length:
        return text
    tail = (length - 1) // 2
    return f"{text[: length - 1 - tail]}…{text[len(text) - tail :]}"


def fit_text(text: str, *, width: float, size: float) -> str:
    """Wrap a printable text into lines that are at most `width` inches wide; words that are too long are broken."""
    text = printable(text)
    columns = len(text)
    lines = [text]
    while columns > 1 and (widest := max(text_width(line, size=size) for line in lines)) > width:
        columns = max(1, min(columns - 1, int(columns * width / widest)))
        lines = textwrap.wrap(text, columns) or [""]
    return "\n".join(lines)


@contextmanager
def _style() -> Iterator[None]:
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**_STYLE, "font.family": list(_font_families())})
        yield


@functools.cache
def _font_families() -> tuple[str, ...]:
    installed = set(font_manager.get_font_names())
    return ("DejaVu Sans", *(name for name in _FALLBACK_FONTS if name in installed))


@functools.cache
def _glyphs() -> frozenset[int]:
    """Return the code points that the fonts of the style have a glyph for."""
    fonts = [font_manager.get_font(font_manager.findfont(family)) for family in _font_families()]
    return frozenset(code for font in fonts for code in font.get_charmap())
