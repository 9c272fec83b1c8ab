"""Suggestions for misspelt names."""

from dl_lib.utils.names import nearest_names


def test_near_names_come_first_whatever_their_case():
    assert nearest_names("polylr", ["PolyLR", "PolyLRs", "Step"]) == "nearest: PolyLR, PolyLRs"
    assert nearest_names("sep_conv3x3", ["sep_conv_3x3", "none"]) == "nearest: sep_conv_3x3"


def test_where_none_is_near_those_that_exist_are_listed_up_to_a_limit():
    assert nearest_names("???", ["b", "a"]) == "available: a, b"
    assert nearest_names("???", (f"name{i:02}" for i in range(23))).endswith("name19 and 3 more")
    assert nearest_names("???", []) == "none exist"
