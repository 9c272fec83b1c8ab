"""Suggestions for misspelt names, and names that become file names."""

import pytest

from dl_lib.utils.names import is_safe_id, is_safe_name, nearest_names

UNSAFE = [
    "",
    " ",
    ".",
    "..",
    "../a",
    "/a",
    "a/../b",
    "a\\b",
    ".hidden",
    "a\nb",
    "a\x00",
    "a\x1b[31m",
    "a\u2028b",
    "\udcff",
]


def test_near_names_come_first_whatever_their_case():
    assert nearest_names("polylr", ["PolyLR", "PolyLRs", "Step"]) == "nearest: PolyLR, PolyLRs"
    assert nearest_names("sep_conv3x3", ["sep_conv_3x3", "none"]) == "nearest: sep_conv_3x3"


def test_existing_names_are_listed_up_to_a_limit_if_none_is_near():
    assert nearest_names("???", ["b", "a"]) == "available: a, b"
    assert nearest_names("???", (f"name{i:02}" for i in range(23))).endswith("name19 and 3 more")
    assert nearest_names("???", []) == "none exist"


@pytest.mark.parametrize("name", [*UNSAFE, "a/b", "x" * 81, "é" * 41, None, 3, ["a"]])
def test_names_that_could_leave_a_folder_or_break_a_file_name_are_unsafe(name):
    assert not is_safe_name(name)


@pytest.mark.parametrize("image_id", [*UNSAFE, "a//b", "a/./b", "a/", "a/.b", "x" * 241, None])
def test_ids_that_could_leave_a_folder_or_break_a_file_name_are_unsafe(image_id):
    assert not is_safe_id(image_id)


@pytest.mark.parametrize("name", ["voc_2012_sem_seg_val", "straße 7 (new)", "a..b", "1", "x" * 80])
def test_usual_names_are_safe(name):
    assert is_safe_name(name)
    assert is_safe_id(f"city/{name}")
