"""Strict and bounded YAML parsing: every mapping key once, no Python tags, limits on depth and size."""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.events import AliasEvent
from yaml.nodes import MappingNode, Node, ScalarNode

from dl_lib.config.errors import ConfigError, shortened

__all__ = ["MAX_CHARACTERS", "parse_yaml"]

MAX_CHARACTERS = 1_000_000  # with aliases expanded; the largest shipped config has 2,000
_MAX_DEPTH = 50  # nested lists and mappings
_TOO_LONG = 10**4300  # the first integer that Python does not print
_AMBIGUOUS = re.compile(r"^[-+]?0[0-9_]|:")  # octal without an o, and base 60: 010 is 8, and 1:30 is 90
# Raised by PyYAML for a scalar that does not match its tag, such as `!!int ""`, or the date 2001-99-99.
_SCALAR_ERRORS = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError)


def parse_yaml(text: str, *, name: str) -> Any:
    """Return the content of a YAML document.

    Args:
        text: The document.
        name: Name of the document in messages, such as the path of its file.

    Raises:
        ConfigError: If the text is not YAML, has Python tags, a key twice in one mapping, an ambiguous integer or an
            alias inside its own anchor, or exceeds the limits on depth and size.
    """
    try:
        loader = _StrictLoader(text, name=name)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        if isinstance(error, yaml.MarkedYAMLError) and error.problem:
            error.problem = shortened(error.problem)
        raise ConfigError(
            f"config must be valid YAML without Python tags: {error}. Received: {shortened(name)}"
        ) from error


class _StrictLoader(yaml.SafeLoader):
    """Safe loader that checks each node while the document is composed, before any value is constructed."""

    def __init__(self, text: str, *, name: str) -> None:
        super().__init__(text)  # raises for control characters
        self.name = name
        self._depth = 0
        # Number of characters and nested levels of each complete node, with aliases expanded.
        self._sizes: dict[Node, tuple[int, int]] = {}

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        mark = self.peek_event().start_mark
        is_alias = self.check_event(AliasEvent)
        self._depth += 1
        _require(self._depth <= _MAX_DEPTH, f"found more than {_MAX_DEPTH} nested levels", mark)
        node: Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if node is None:
            return None
        _require(not is_alias or node in self._sizes, "found an alias inside its own anchor", mark)
        if not is_alias:
            self._sizes[node] = self._expanded_size(node)
        characters, levels = self._sizes[node]
        _require(characters <= MAX_CHARACTERS, f"found more than {MAX_CHARACTERS} characters", mark)
        _require(self._depth + levels <= _MAX_DEPTH, f"found more than {_MAX_DEPTH} nested levels", mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        node = super().compose_mapping_node(anchor)
        assert node is not None
        first: dict[Any, Node] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, ScalarNode):
                continue  # a list or mapping is no valid key, which the constructor reports
            is_merge = key_node.tag == "tag:yaml.org,2002:merge"
            key = key_node.value if is_merge else self.construct_object(key_node)
            if key in first:
                raise ConstructorError(
                    f"found the key {shortened(str(key))!r} twice in one mapping: first",
                    first[key].start_mark,
                    "then",
                    key_node.start_mark,
                )
            first[key] = key_node
        return node

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            value = super().construct_object(node, deep)
        except _SCALAR_ERRORS as error:
            raise ConstructorError(None, None, f"found an invalid value, {error}", node.start_mark) from error
        if isinstance(value, int):
            _require(abs(value) < _TOO_LONG, "found an integer that is too long", node.start_mark)
            is_clear = isinstance(value, bool) or not _AMBIGUOUS.search(node.value)
            hint = f"found {node.value}, which YAML reads as {value}; write {value}, or quote a text"
            _require(is_clear, hint, node.start_mark)
        return value

    def _expanded_size(self, node: Node) -> tuple[int, int]:
        if isinstance(node, ScalarNode):
            return len(node.value) + 1, 0
        below = [child for pair in node.value for child in pair] if isinstance(node, MappingNode) else node.value
        sizes = [self._sizes[child] for child in below]
        return 1 + sum(characters for characters, _ in sizes), 1 + max((levels for _, levels in sizes), default=0)


def _require(condition: bool, problem: str, mark: yaml.Mark) -> None:
    if not condition:
        raise ConstructorError(None, None, problem, mark)
