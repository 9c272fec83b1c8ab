"""Warning about classes beyond an imbalance of 1:1000."""

import pytest

from dl_lib.data.class_imbalance import imbalance_warning

NAMES = ("road", "pole", "car")


@pytest.mark.parametrize("pixels", [(5000, 5, 100), (0, 0, 0), (0, 10**6, 0), (7, 7, 7), (10**9, 0, 10**6)])
def test_up_to_1000_and_without_absent_classes_there_is_no_warning(pixels):
    assert imbalance_warning(pixels, class_names=NAMES) is None


def test_both_classes_are_named_with_their_pixels():
    warning = imbalance_warning((6003, 3, 6002), class_names=NAMES)
    assert warning.startswith(
        "Class imbalance of 1:2,001, beyond 1:1000: 3 labelled pixels of 'pole', 6,003 of 'road'. "
    )
    assert imbalance_warning((5001, 5, 100), class_names=NAMES) is not None
