"""Settings of the predictions in an output folder."""

import pytest

from dl_lib.prediction.saving.settings import SETTINGS_NAME, check_settings, write_settings
from dl_lib.utils.output_path import OutputPathError
from dl_lib.utils.run_files import LOCK_NAME

SETTINGS = {"save": ("labels", "json"), "TEST.EXECUTION": "sparse"}


def test_an_empty_folder_can_be_used(tmp_path):
    (tmp_path / LOCK_NAME).touch()
    for resume in (False, True):
        check_settings(tmp_path, SETTINGS, resume=resume)


def test_predictions_are_continued_under_equal_settings_only(tmp_path):
    write_settings(tmp_path, SETTINGS)
    check_settings(tmp_path, SETTINGS, resume=True)
    with pytest.raises(OutputPathError, match=r"^--output: this folder is not empty; .* add --resume"):
        check_settings(tmp_path, SETTINGS, resume=False)
    with pytest.raises(OutputPathError, match=r"TEST.EXECUTION was 'sparse', not 'dense'; added was None, not 1\)"):
        check_settings(tmp_path, {**SETTINGS, "TEST.EXECUTION": "dense", "added": 1}, resume=True)


@pytest.mark.parametrize("content", [None, "", "[" * 100_000, "[]", "null"])
def test_a_folder_with_other_content_is_refused(tmp_path, content):
    (tmp_path / "photo.jpg").touch()
    if content is not None:
        (tmp_path / SETTINGS_NAME).write_text(content)
    with pytest.raises(OutputPathError, match=r"^--output: this folder .*Received: --output="):
        check_settings(tmp_path, SETTINGS, resume=True)
