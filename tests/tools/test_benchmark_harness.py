"""Harness and reports of the benchmarks."""

import json
from dataclasses import dataclass
from itertools import count

import pytest
import torch
from harness import Case, Settings, interleave, measure_memory, time_cases
from report import Report, Table, describe_machine


def test_interleave_calls_each_function_once_per_round_and_drops_the_warmup():
    calls, numbers = [], count()
    measures = {name: lambda name=name: calls.append(name) or next(numbers) for name in "ab"}
    assert interleave(measures, rounds=2, warmup=1) == {"a": (2, 4), "b": (3, 5)}
    assert calls == ["a", "b"] * 3


class Recorded(Case):
    def __init__(self, group, name, calls):
        self.group, self.name, self.calls = group, name, calls

    def prepare(self, settings):
        return lambda: self.calls.append(self.name) or 2.0


def test_cases_of_a_group_are_interleaved():
    calls = []
    cases = [Recorded("one", "a", calls), Recorded("one", "b", calls), Recorded("two", "c", calls)]
    timings = time_cases(cases, Settings(), rounds=3)
    assert "".join(calls) == "ab" * 5 + "c" * 5, "two rounds of warm-up"
    assert list(timings) == ["a", "b", "c"]
    assert len(timings["a"].seconds) == 3 and timings["a"].gflops == 2.0


@dataclass(frozen=True)
class Hoard(Case):
    """Case that allocates and frees 256 MiB."""

    name = group = "hoard"

    def prepare(self, settings):
        return lambda: float(torch.ones(64 * 2**20).sum())


def test_memory_is_that_of_the_case_alone():
    hoard = torch.ones(192 * 2**20)  # 768 MiB in this process
    memory = measure_memory(Hoard(), Settings(num_threads=1))
    assert memory.peak_mib - memory.idle_mib == pytest.approx(256, abs=16)
    del hoard


def test_reports_hold_raw_values_as_json_and_rounded_ones_as_markdown(tmp_path, capsys):
    summary = Table("Summary", {"name": "", "seconds": ".2f", "count": ","}, [("a", 1 / 3, 1234), ("b", None, 5)])
    detail = Table("All cases", {"name": ""}, [("a",)], detail=True)
    report = Report("Title", {"device": "cpu"}, "Some notes.", [summary, detail], {"a": (0.25, 0.5)})
    report.write(tmp_path, "result", document=tmp_path / "docs" / "short.md")
    markdown = (tmp_path / "result.md").read_text()
    assert capsys.readouterr().out.startswith(markdown)
    assert markdown.startswith("# Title\n\n- device: cpu\n\nSome notes.\n\n## Summary\n\n|")
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines() if "|" in line]
    assert cells[:1] + cells[2:4] == [["name", "seconds", "count"], ["a", "0.33", "1,234"], ["b", "", "5"]]
    assert "## All cases" in markdown
    assert markdown.partition("\n\n## All cases")[0] + "\n" == (tmp_path / "docs" / "short.md").read_text()
    values = json.loads((tmp_path / "result.json").read_text())
    assert values["tables"]["Summary"][0] == {"name": "a", "seconds": 1 / 3, "count": 1234}
    assert values["samples"] == {"a": [0.25, 0.5]} and values["facts"] == {"device": "cpu"}


def test_machine_names_threads_versions_and_allocator(monkeypatch):
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "123")
    facts = describe_machine(Settings())
    assert facts["threads"] == str(torch.get_num_threads()) and facts["torch"] == torch.__version__
    assert "MALLOC_TRIM_THRESHOLD_=123" in facts["allocator"]
    assert facts["allocator"] != describe_machine(Settings(keep_memory=True))["allocator"]
