"""Damaged files end in user errors, or load to valid values; `python -m tests.fuzz` runs the same for hours."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.formats import FORMATS, USER_ERRORS, Content

MAX_MESSAGE = 3000  # characters


def check(form, content):
    """Read a content; raise an error if it is neither valid nor refused with a readable message."""
    try:
        form.read(content)
    except USER_ERRORS as error:
        assert len(str(error)) <= MAX_MESSAGE


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files(name, tmp_path):
    form = FORMATS[name](tmp_path)
    examples = settings(
        max_examples=50,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    examples(given(form.contents.map(lambda value: Content(value)))(lambda content: check(form, content.value)))()
