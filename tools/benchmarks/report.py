"""Benchmark reports: tables of raw values with machine and versions, as Markdown and JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from harness import Settings
from tabulate import tabulate

from dl_lib.utils.device_name import device_name
from dl_lib.utils.files import write_atomically

Samples = dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Table:
    """Rows of raw values."""

    title: str
    columns: Mapping[str, str]  # header: format specification of its values; "" for a left-aligned name
    rows: Sequence[Sequence[Any]]  # in the order of the columns; None leaves a cell empty
    detail: bool = False  # lists all cases; omitted from documents

    def markdown(self) -> str:
        """Return the heading and the formatted table."""
        specs = list(self.columns.values())
        cells = [
            ["" if v is None else format(v, spec) for v, spec in zip(row, specs, strict=True)] for row in self.rows
        ]
        align = ["right" if spec else "left" for spec in specs]
        table = tabulate(cells, headers=list(self.columns), tablefmt="github", colalign=align, disable_numparse=True)
        return f"## {self.title}\n\n{table}"


@dataclass(frozen=True)
class Report:
    """Result of a benchmark."""

    title: str
    facts: Mapping[str, str]  # machine, versions and settings
    notes: str  # explanation of columns and units
    tables: Sequence[Table]
    samples: Mapping[str, Sequence[Any]]  # all measurements of each case, which the tables summarize

    def markdown(self, *, details: bool = True) -> str:
        """Return the whole report, or the report without detail tables."""
        facts = "\n".join(f"- {name}: {value}" for name, value in self.facts.items())
        tables = [table.markdown() for table in self.tables if details or not table.detail]
        return "\n\n".join([f"# {self.title}", facts, self.notes, *tables]) + "\n"

    def write(self, folder: Path, name: str, *, document: Path | None = None) -> None:
        """Print the report and write `<name>.md` and `<name>.json`, and a document without detail tables."""
        rows = {t.title: [dict(zip(t.columns, row, strict=True)) for row in t.rows] for t in self.tables}
        values = {"facts": dict(self.facts), "notes": self.notes, "tables": rows, "samples": dict(self.samples)}
        print(self.markdown())
        write_atomically(folder / f"{name}.md", self.markdown())
        write_atomically(folder / f"{name}.json", json.dumps(values, indent=2) + "\n")
        if document is not None:
            write_atomically(document, self.markdown(details=False))
        print(f"Wrote {name}.md and {name}.json to {folder.absolute()}")


def measure_parts(
    measures: Mapping[str, Callable[[], tuple[Table, Samples]]], parts: Sequence[str]
) -> tuple[list[Table], Samples]:
    """Return the tables of these parts of a benchmark and their samples, named by part and case."""
    results = {part: measures[part]() for part in parts}
    samples = {f"{part}/{name}": values for part, (_, own) in results.items() for name, values in own.items()}
    return [table for table, _ in results.values()], samples


def describe_machine(settings: Settings) -> dict[str, str]:
    """Return date, processor, threads, device, versions and allocator, for `Report.facts`."""
    names = ("LD_PRELOAD", "GLIBC_TUNABLES", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
    chosen = [f"{k}={v}" for k, v in sorted(os.environ.items()) if k in names or k.startswith("MALLOC_")]
    library = " ".join(platform.libc_ver()) or "C library"
    kept = "keeps freed memory, as in training and evaluation runs"
    facts = {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "CPU": f"{device_name(torch.device('cpu'))}, {len(os.sched_getaffinity(0))} cores usable",
        "threads": str(torch.get_num_threads()),
        "device": settings.device,
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "allocator": kept if settings.keep_memory else ", ".join(chosen) or f"{library} with its defaults",
    }
    if settings.device != "cpu":
        tf32 = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        facts["device"] += f", {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
        facts["TF32"] = "convolutions {}, matmul {}".format(*("on" if is_on else "off" for is_on in tf32))
    return facts
