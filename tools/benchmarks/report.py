"""Benchmark reports: tables of raw values, written as Markdown and JSON together with the machine and versions."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate

from dl_lib.utils.files import write_atomically


@dataclass(frozen=True)
class Table:
    """Rows of raw values.

    Attributes:
        title: Heading.
        columns: Headers with the format specification of their values; an empty one marks a left-aligned name.
        rows: Values in the order of the columns; None leaves a cell empty.
        detail: Whether it lists all cases and is left out of documents.
    """

    title: str
    columns: Mapping[str, str]
    rows: Sequence[Sequence[Any]]
    detail: bool = False

    def markdown(self) -> str:
        """Return the heading and the formatted table."""
        specs = list(self.columns.values())
        cells = [
            ["" if value is None else format(value, spec) for value, spec in zip(row, specs, strict=True)]
            for row in self.rows
        ]
        align = ["right" if spec else "left" for spec in specs]
        table = tabulate(cells, headers=list(self.columns), tablefmt="github", colalign=align, disable_numparse=True)
        return f"## {self.title}\n\n{table}"

    def records(self) -> list[dict[str, Any]]:
        """Return each row as header to raw value."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


@dataclass(frozen=True)
class Report:
    """Result of a benchmark.

    Attributes:
        title: Main heading.
        facts: Machine, versions and settings, by name.
        notes: Explanation of columns and units.
        tables: Tables; those without rows are left out.
        samples: All measurements of each case, which the tables summarize.
    """

    title: str
    facts: Mapping[str, str]
    notes: str
    tables: Sequence[Table]
    samples: Mapping[str, Sequence[Any]] = field(default_factory=dict)

    def markdown(self, *, details: bool = True) -> str:
        """Return the whole report, or the report without detail tables."""
        facts = "\n".join(f"- {name}: {value}" for name, value in self.facts.items())
        tables = [table.markdown() for table in self.tables if table.rows and (details or not table.detail)]
        return "\n\n".join([f"# {self.title}", facts, self.notes, *tables]) + "\n"

    def write(self, folder: Path, name: str, *, document: Path | None = None) -> None:
        """Print the report and write it to `<name>.md` and `<name>.json`.

        Args:
            folder: Output folder.
            name: File name without suffix.
            document: Another Markdown file, without detail tables.
        """
        values = {
            "facts": dict(self.facts),
            "notes": self.notes,
            "tables": {table.title: table.records() for table in self.tables},
            "samples": {key: list(value) for key, value in self.samples.items()},
        }
        print(self.markdown())
        write_atomically(folder / f"{name}.md", self.markdown())
        write_atomically(folder / f"{name}.json", json.dumps(values, indent=2) + "\n")
        if document is not None:
            write_atomically(document, self.markdown(details=False))
        print(f"Wrote {name}.md and {name}.json to {folder.absolute()}")


def describe_machine(device: str) -> dict[str, str]:
    """Return date, processor, threads, device, versions and allocator, for `Report.facts`.

    Args:
        device: The measured device, `cpu` or `cuda`.
    """
    facts = {
        "date": datetime.now().astimezone().isoformat(timespec="seconds"),
        "CPU": f"{_cpu_model()}, {len(os.sched_getaffinity(0))} cores usable",
        "threads": str(torch.get_num_threads()),
        "device": device,
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "allocator": _allocator(),
    }
    if device != "cpu":
        tf32 = {"convolutions": torch.backends.cudnn.allow_tf32, "matmul": torch.backends.cuda.matmul.allow_tf32}
        facts["device"] += f", {torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
        facts["TF32"] = ", ".join(f"{name} {'on' if is_on else 'off'}" for name, is_on in tf32.items())
    return facts


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _allocator() -> str:
    """Return the environment variables that choose or tune the allocator, or the name of the C library."""
    names = ("LD_PRELOAD", "GLIBC_TUNABLES", "PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
    chosen = {name for name in os.environ if name in names or name.startswith("MALLOC_")}
    library = " ".join(platform.libc_ver()) or "C library"
    return ", ".join(f"{name}={os.environ[name]}" for name in sorted(chosen)) or f"{library} with its defaults"
