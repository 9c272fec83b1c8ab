"""Escaping of text from data (file, class and dataset names) in logs, CSV and Markdown."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping

__all__ = ["TABLE_ESCAPES", "csv_text", "markdown_text", "printable", "printable_lines"]

# C0 and C1 control characters, surrogates, line and paragraph separators, and marks that reorder text.
_UNPRINTABLE = r"\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069"
_CHARACTERS = re.compile(f"[{_UNPRINTABLE}]")
_CHARACTERS_IN_LINES = re.compile(rf"(?![\n\t])[{_UNPRINTABLE}]")
_MARKDOWN = re.compile(r"[\\`*\[\]|]")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four: full width
_FIRST_BYTE, _LAST_BYTE = "\udc80", "\udcff"  # bytes of a file name that is not UTF-8, see `os.fsdecode`


def printable(text: str) -> str:
    r"""Return a text in one line, with escapes such as `\n` and `\x1b` for control characters, as in Python.

    Bytes of a file name that are not UTF-8 become `\xdf`.
    """
    return text if text.isprintable() else _CHARACTERS.sub(_escape, text)  # fast for long texts


def printable_lines(text: str) -> str:
    """Return a text of several lines, such as a message, with escapes as in `printable`."""
    return text if text.isprintable() else _CHARACTERS_IN_LINES.sub(_escape, text)


def markdown_text(text: str) -> str:
    """Return a text for a line or a table cell of Markdown: without markup, HTML and line breaks."""
    return html.escape(_MARKDOWN.sub(r"\\\g<0>", printable(text)), quote=False)


def csv_text(text: str) -> str:
    """Return a text for a CSV cell, which spreadsheets must not run as a formula: those get a leading `'`."""
    return f"'{printable(text)}" if text.startswith(_FORMULA_STARTS) else printable(text)


# By the name of the table format in tabulate.
TABLE_ESCAPES: Mapping[str, Callable[[str], str]] = {"simple": printable, "github": markdown_text}


def _escape(match: re.Match[str]) -> str:
    character = match[0]
    if _FIRST_BYTE <= character <= _LAST_BYTE:
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
