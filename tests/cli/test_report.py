"""Command `dl_lib report`: the page of runs, named missing data, and invalid arguments."""

import pytest

from dl_lib.cli.main import main
from tests.helpers.evaluated_run import make_evaluated_run


def test_report_of_two_runs(tmp_path, capsys):
    runs = [make_evaluated_run(tmp_path / name) for name in ("a", "b")]
    (runs[1] / "gates.npz").unlink()
    page = tmp_path / "new" / "page.html"
    main(["report", *map(str, runs), "--output", str(page)])
    assert page.read_text().startswith("<!doctype html>")
    missing, wrote = capsys.readouterr().out.splitlines()
    assert missing.startswith("Missing for b: gates.npz cannot be read (No such file or directory); evaluate")
    assert wrote == f"Wrote {page} ({page.stat().st_size / 1e6:.1f} MB)"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["run", "run"], "RUN: each run must be given once. Received: run run"),
        (["run"] * 7, "RUN: at most 6 runs fit side by side. Received: 7 runs"),
        (["empty"], "RUN must be a folder with a results.json; evaluate the run"),
        (["run", "loop"], "results.json cannot be read (Too many levels of symbolic links)"),
        (["run", "--output", "folder.html"], "cannot write folder.html: Is a directory"),
        (["run", "--output", "run/log.txt/page.html"], "cannot write page.html: a file or a broken link has this name"),
        (["run", "--output", "page.pdf"], "must end in .html. Received: page.pdf"),
    ],
)
def test_errors(tmp_path, monkeypatch, capsys, words, problem):
    monkeypatch.chdir(tmp_path)
    make_evaluated_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(SystemExit) as ended:
        main(["report", *words])
    assert ended.value.code == 2
    assert problem in capsys.readouterr().err
