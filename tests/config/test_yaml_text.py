"""Strict YAML: duplicate keys, limits on aliases, depth and numbers, in files, bases and overrides."""

import pytest

from dl_lib.config import ConfigError, get_cfg
from dl_lib.config.yaml_text import parse_yaml

ALIASES = "\n".join(["a0: &a0 [x,x,x,x,x,x,x,x,x,x]", *(f"a{i}: &a{i} [{f'*a{i - 1},' * 10}]" for i in range(1, 10))])
CHAIN = "\n".join(["a0: &a0 [x]", *(f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 1000))])
TEXTS = f"a: &a {'x' * 200_000}\nb: [*a, *a, *a, *a, *a]"


@pytest.mark.parametrize(
    ("text", "key", "lines"),
    [
        ("SEED: 1\nLOG_PERIOD: 2\nSEED: 1", "SEED", (1, 3)),
        ("SOLVER:\n  IMS_PER_BATCH: 2\nSOLVER:\n  GRAD_CLIP: 1.0", "SOLVER", (1, 3)),
        ("MODEL:\n  GATE:\n    GATE_ON: true\n    SMALL_GATE: true\n    GATE_ON: true", "GATE_ON", (3, 5)),
        ("DATASETS:\n  FOLDERS:\n  - {NAME: x,\n     LABELS: l1,\n     LABELS: l2}", "LABELS", (4, 5)),
        ("A:\n  1: a\n  0x1: b", "1", (2, 3)),
        ("'SEED': 1\n\"SEED\": 2", "SEED", (1, 2)),
        ("a: &a {b: 1}\nc:\n  <<: *a\n  <<: *a", "<<", (3, 4)),
    ],
)
@pytest.mark.parametrize("top", ["_BASE_: file.yaml", None])
def test_a_key_twice_is_an_error_with_both_lines(tmp_path, text, key, lines, top):
    path = tmp_path / "file.yaml"
    path.write_text(text)
    (tmp_path / "top.yaml").write_text(top or "")
    with pytest.raises(ConfigError) as caught:
        get_cfg().merge_from_file(tmp_path / "top.yaml" if top else path)
    message = str(caught.value)
    assert f"the key '{key}' twice" in message
    for line in lines:
        assert f'in "{path}", line {line},' in message


@pytest.mark.parametrize("quote", ["", "'"])
def test_a_key_twice_in_an_override_is_an_error(quote):
    entry = f"[{{{quote}NAME{quote}: {quote}a{quote}, {quote}NAME{quote}: {quote}b{quote}}}]"
    with pytest.raises(ConfigError, match=r"the key 'NAME' twice"):
        get_cfg().merge_from_list([f"DATASETS.FOLDERS={entry}"])


def test_anchors_aliases_and_merge_keys_remain_usable():
    text = "a: &a {x: 1, y: [1, 2]}\nb: {<<: *a, x: 2}\nc: [*a, *a]"
    a = {"x": 1, "y": [1, 2]}
    assert parse_yaml(text, name="text") == {"a": a, "b": {"x": 2, "y": [1, 2]}, "c": [a, a]}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (ALIASES, "more than 1000000 characters"),
        (TEXTS, "more than 1000000 characters"),
        (CHAIN, "more than 50 nested levels"),
        ("[" * 100_000, "more than 50 nested levels"),
        ("{a: " * 100_000, "more than 50 nested levels"),
        ("- " * 10_000, "more than 50 nested levels"),
        ("a: &a [*a]", "alias inside its own anchor"),
        ("a: &a {b: *a}", "alias inside its own anchor"),
        ("SEED: 0x" + "f" * 5000, "integer that is too long"),
        ("SEED: " + "9" * 5000, "invalid value"),
        ("SEED: 010", "which YAML reads as 8; write 8"),
        ("MAP: {1:5: 2}", "which YAML reads as 65"),
        ('SEED: !!int ""', "invalid value"),
        ("SEED: !!bool maybe", "invalid value"),
        ("SEED: !!timestamp now", "invalid value"),
        ("SEED: 2001-99-99", "invalid value"),
        ("? [a]\n: 1", "unhashable"),
        ("!" + "x" * 100_000, "could not determine a constructor"),
        ("SEED: 1\n---\nSEED: 2", "another document"),
    ],
)
def test_hostile_text_is_a_short_error_at_once(text, problem):
    with pytest.raises(ConfigError) as caught:
        parse_yaml(text, name="bomb.yaml")
    assert problem in str(caught.value)
    assert str(caught.value).endswith("Received: bomb.yaml")
    assert len(str(caught.value)) < 500


def test_long_values_are_shortened_in_errors():
    with pytest.raises(ConfigError) as caught:
        get_cfg().merge_from_list([f"SEED=[{'x, ' * 5000}]", f"LOG_PERIOD={'9' * 4000}", f"VIS_PERIOD={'9' * 5000}"])
    assert str(caught.value).count("characters)") == 3
    assert len(str(caught.value)) < 1500
