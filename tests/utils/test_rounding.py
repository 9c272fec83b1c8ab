import pytest

from dl_lib.utils.rounding import round_up


@pytest.mark.parametrize(("value", "expected"), [(0, 0), (1, 32), (31, 32), (32, 32), (33, 64), (10**20, 10**20)])
def test_round_up(value, expected):
    assert round_up(value, 32) == expected
