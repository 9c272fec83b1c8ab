"""Hypothesis strategies of damaged files: random bytes, and valid contents with mutations."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import strategies as st

from dl_lib.data.decoding import PNG_SIGNATURE

__all__ = ["EXTREMES", "mutated_bytes", "mutated_tree", "with_png_checksums"]

EXTREMES = (
    *(None, True, False, -1, 0, 1, 2, 255, 2**31, 2**63, -(2**63), 10**30, 2.5, -0.5, 1e308, 1e-320),
    *(float("inf"), float("-inf"), float("nan"), "", "x", "0", "../x", "/", "a\0b", "\u202e", "=1+1", "é", "x" * 300),
    *([], {}, [[]], [0], [-1, -1], {"x": {}}, [1e308, 1e308, 1e308, 1e308, 1e308, 1e308]),
)
_EXTREME_TEXTS = (
    *(b"-1", b"0", b"2147483648", b"-9223372036854775809", b"1e308", b"1e999", b"NaN", b"1" * 5000, b"0.5"),
    *(b"null", b"true", b'"x"', b'""', b"[]", b"{}", b"[[[]]]", b"&a [*a]", b"!!python/name:os.system", b"[" * 2000),
)
_EXTREME_INTEGERS = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
_TOKEN = re.compile(rb'-?\d+(?:\.\d+)?|"[^"]*"|true|false|null')


@st.composite
def mutated_bytes(draw: st.DrawFn, valid: Sequence[bytes]) -> bytes:
    """Return random bytes, or one of the valid contents with up to four mutations."""
    if draw(st.integers(0, 15)) == 0:
        return draw(st.binary(max_size=64))
    content = draw(st.sampled_from(valid))
    for mutate in draw(st.lists(st.sampled_from(_MUTATIONS), min_size=1, max_size=4)):
        content = mutate(draw, content)
    return content


@st.composite
def mutated_tree(draw: st.DrawFn, valid: Any, *, extremes: Sequence[Any] = EXTREMES) -> Any:
    """Return nested dicts and lists with up to three values replaced, removed, repeated or exchanged."""
    tree = _copied(valid)
    for _ in range(draw(st.integers(1, 3))):
        if not tree:
            break
        container, key = _place(draw, tree)
        action = draw(st.sampled_from(("replace", "replace", "remove", "repeat", "exchange")))
        if action == "replace":
            container[key] = _copied(draw(st.sampled_from(extremes)))
        elif action == "remove":
            del container[key]
        elif action == "exchange":
            other, name = _place(draw, tree)
            container[key] = _copied(other[name])
        elif isinstance(container, list):
            container.append(_copied(container[key]))
        else:
            container[draw(st.sampled_from(("x", "", 0, f"{key}.x")))] = _copied(container[key])
    return tree


def with_png_checksums(content: bytes) -> bytes:
    """Return a PNG with correct checksums, so that decoders read its damaged chunks."""
    if not content.startswith(PNG_SIGNATURE):
        return content
    repaired, position = bytearray(content), len(PNG_SIGNATURE)
    while position + 12 <= len(repaired):
        length = int.from_bytes(repaired[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(repaired):
            break
        repaired[end : end + 4] = zlib.crc32(repaired[position + 4 : end]).to_bytes(4, "big")
        position = end + 4
    return bytes(repaired)


def _flip(draw: st.DrawFn, content: bytes) -> bytes:
    changed = bytearray(content)
    if changed:
        changed[draw(st.integers(0, len(content) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)


def _overwrite(draw: st.DrawFn, content: bytes) -> bytes:
    """Replace a binary number by an extreme one."""
    order, code = draw(st.sampled_from("<>")), draw(st.sampled_from("BHIQ"))
    size = struct.calcsize(order + code)
    number = struct.pack(order + code, draw(st.sampled_from(_EXTREME_INTEGERS)) % 256**size)
    start = draw(st.integers(0, len(content)))
    return content[:start] + number + content[start + size :]


def _truncate(draw: st.DrawFn, content: bytes) -> bytes:
    return content[: draw(st.integers(0, len(content)))]


def _remove(draw: st.DrawFn, content: bytes) -> bytes:
    start, stop = _range(draw, content)
    return content[:start] + content[stop:]


def _duplicate(draw: st.DrawFn, content: bytes) -> bytes:
    start, stop = _range(draw, content)
    return content[:stop] + content[start:]


def _splice(draw: st.DrawFn, content: bytes) -> bytes:
    """Insert a part of the content, or random bytes, at another position."""
    start, stop = _range(draw, content)
    inserted = draw(st.one_of(st.just(content[start:stop]), st.binary(max_size=8)))
    position = draw(st.integers(0, len(content)))
    return content[:position] + inserted + content[position:]


def _replace_token(draw: st.DrawFn, content: bytes) -> bytes:
    """Replace a number, text or constant by an extreme one, or by another one of the content."""
    tokens = list(_TOKEN.finditer(content))
    if not tokens:
        return content
    token, other = draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens))
    new = draw(st.one_of(st.sampled_from(_EXTREME_TEXTS), st.just(other[0])))
    return content[: token.start()] + new + content[token.end() :]


_MUTATIONS = (_flip, _overwrite, _truncate, _remove, _duplicate, _splice, _replace_token, _replace_token)


def _range(draw: st.DrawFn, content: bytes) -> tuple[int, int]:
    start = draw(st.integers(0, len(content)))
    return start, draw(st.integers(start, min(len(content), start + 64)))


def _place(draw: st.DrawFn, tree: Any) -> tuple[Any, Any]:
    """Return container and key of a value; values in short containers are more likely than those in long ones."""
    while True:
        key = draw(st.sampled_from(list(tree) if isinstance(tree, Mapping) else range(len(tree))))
        value = tree[key]
        if not isinstance(value, (dict, list)) or not value or draw(st.integers(0, 3)) == 0:
            return tree, key
        tree = value


def _copied(tree: Any) -> Any:
    if isinstance(tree, Mapping):
        return {key: _copied(value) for key, value in tree.items()}
    return [_copied(value) for value in tree] if isinstance(tree, (list, tuple)) else tree
