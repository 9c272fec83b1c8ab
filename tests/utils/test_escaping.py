"""Escaping: text from data cannot leave its line, cell or column, whatever it contains."""

import csv
import io

import pytest

from dl_lib.utils.escaping import csv_text, markdown_text, printable, printable_lines


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("straße, 街", "straße, 街"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x1b[31mred\x9b\x00\x7f", r"\x1b[31mred\x9b\x00\x7f"),
        ("stra\udcdfe", r"stra\xdfe"),  # a byte that is not UTF-8
        ("\ud800\u2028\u202egnp.exe", r"\ud800\u2028\u202egnp.exe"),
    ],
)
def test_unprintable_characters(text, line):
    assert printable(text) == line
    assert printable_lines(text) == line.replace(r"\n", "\n").replace(r"\t", "\t")
    line.encode()  # all of it is UTF-8


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("traffic_light", "traffic_light"),
        ("a|b", r"a\|b"),
        ("a\\|b", r"a\\\|b"),
        ("<img src=x> & \n", r"&lt;img src=x&gt; &amp; \\n"),
        ("[a](b) *c* `d`", r"\[a\](b) \*c\* \`d\`"),
    ],
)
def test_markdown(text, cell):
    assert markdown_text(text) == cell


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\uff1d"])
def test_formulas_in_csv(start):
    (cell,) = next(csv.reader(io.StringIO(csv_text(f"{start}HYPERLINK"))))
    assert cell == f"'{printable(start)}HYPERLINK"
    assert csv_text(f"a{start}") == f"a{printable(start)}"
