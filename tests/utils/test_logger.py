"""Destinations of log lines, each written once."""

import io
import logging
import sys

import pytest

from dl_lib.utils.logger import REPEATS_BAR, setup_logger
from tests.helpers.training import restore_logging


@pytest.fixture(autouse=True)
def _restore_logging():
    with restore_logging():
        # pytest captures the records of loggers that an earlier test left like this, and cannot send lone surrogates
        # from a worker process to the main process.
        logging.getLogger("dl_lib").propagate = True
        yield


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_repeated_setup_logs_each_line_once(tmp_path, capsys):
    for _ in range(3):
        setup_logger(tmp_path)
    logging.getLogger("dl_lib.some.module").info("hello")
    logging.getLogger("fvcore.common").warning("careful")
    printed = capsys.readouterr().out.splitlines()
    assert [line.split("] ", 1)[1] for line in printed] == ["hello", "WARNING: careful"]
    written = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split("] ", 1)[1] for line in written] == [
        "INFO dl_lib.some.module: hello",
        "WARNING fvcore.common: careful",
    ]


def test_control_characters_are_escaped_and_lines_kept(tmp_path, capsys):
    setup_logger(tmp_path)
    logging.getLogger("dl_lib.data").info("table\nof %s", "a\x1b[2J \udcdf")
    for text in (capsys.readouterr().out, (tmp_path / "log.txt").read_text()):
        assert text.endswith("table\nof a\\x1b[2J \\xdf\n") and "\x1b" not in text


def test_second_run_in_a_process_logs_to_its_own_file(tmp_path):
    setup_logger(tmp_path / "first").info("one")
    setup_logger(tmp_path / "second").info("two")
    assert "two" not in (tmp_path / "first" / "log.txt").read_text()
    assert "one" not in (tmp_path / "second" / "log.txt").read_text()


def test_resumed_run_appends_to_its_log(tmp_path):
    setup_logger(tmp_path).info("one")
    setup_logger(tmp_path).info("two")
    assert [line[-3:] for line in (tmp_path / "log.txt").read_text().splitlines()] == ["one", "two"]


def test_other_ranks_do_not_log_to_the_terminal(tmp_path, capsys):
    setup_logger(tmp_path, rank=3).info("from rank 3")
    assert capsys.readouterr() == ("", "")
    assert "from rank 3" in (tmp_path / "log_rank3.txt").read_text()
    assert not (tmp_path / "log.txt").exists()


def test_handlers_of_the_application_are_kept(tmp_path):
    logger, own = logging.getLogger("dl_lib"), logging.NullHandler()
    logger.addHandler(own)
    setup_logger(tmp_path)
    assert own in logger.handlers


@pytest.mark.parametrize("is_terminal", [True, False])
def test_terminal_does_not_repeat_what_the_bar_shows(tmp_path, monkeypatch, is_terminal):
    stream = Terminal() if is_terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", Terminal())
    logger = setup_logger(tmp_path)
    logger.info("loss 1.0", extra=REPEATS_BAR)
    logger.error("stop")
    assert ("loss 1.0" in stream.getvalue()) is not is_terminal
    assert "loss 1.0" in (tmp_path / "log.txt").read_text()
    assert ("\x1b[" in stream.getvalue()) is is_terminal  # colors in a terminal only
    assert "\x1b[" not in (tmp_path / "log.txt").read_text()
