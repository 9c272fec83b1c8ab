"""Verification of exported files: every kind of difference fails it."""

from dataclasses import replace

import pytest

from dl_lib.inference.exporting.verification import LOGITS_TOLERANCES, Verification

EQUAL = Verification(
    sizes=((32, 32),),
    num_images=2,
    tolerance=1e-4,
    difference=1e-6,
    different_pixels=0,
    num_pixels=2048,
    different_gates=0,
    num_gates=10,
    gflops_difference=0.0,
)


@pytest.mark.parametrize(
    ("change", "passed"),
    [
        ({}, True),
        ({"different_gates": None, "gflops_difference": None}, True),
        ({"different_pixels": 3}, True),  # of equal logits
        ({"different_gates": 1}, False),
        ({"difference": 2e-4}, False),
        ({"difference": float("inf")}, False),
        ({"gflops_difference": 2e-4}, False),
    ],
)
def test_passed(change, passed):
    assert replace(EQUAL, **change).passed is passed


@pytest.mark.parametrize(("precision", "text"), [("float32", "0.0001"), ("fp16", "0.02"), ("int8", "0.15")])
def test_tolerance_is_printed_as_it_is(precision, text):
    assert f"(tolerance: {text})" in str(replace(EQUAL, tolerance=LOGITS_TOLERANCES[precision]))
