"""What loading costs, as Markdown for people and as plain values for machines."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

import cv2
import PIL

from dl_lib.benchmark.data_measure import WARM_UP_ROUNDS, DataResults, Rate
from dl_lib.benchmark.data_paths import PLAIN, SCALES
from dl_lib.benchmark.report import markdown_table

__all__ = ["data_results_as_dict", "format_data_markdown"]

_UNITS = {
    "cpu_seconds": "of one sample, over all processes that take part; median and all timed rounds",
    "samples_per_second": "of elapsed time, once the processes have started",
    "ratio": "samples per CPU second, as a multiple of those of the plain way: median of the rounds' ratios",
}


def data_results_as_dict(results: DataResults, *, machine: Mapping[str, str]) -> dict[str, Any]:
    """What benchmark_data.json holds.

    Args:
        results: what was measured.
        machine: what it was measured on.
    """
    return {
        "machine": _machine(machine),
        "units": _UNITS,
        "warm_up_rounds": WARM_UP_ROUNDS,
        "size": list(results.size),
        "pictures": results.pictures,
        "image_bytes": results.image_bytes,
        "label_bytes": results.label_bytes,
        "scales": list(SCALES),
        "loading": {name: {**_rate(rate), "ratio": _ratio(results, rate)} for name, rate in results.loading.items()},
        "decoding": {name: _rate(rate) for name, rate in results.decoding.items()},
        "with_workers": {
            name: {str(number): _rate(rate) for number, rate in rates.items()}
            for name, rates in results.with_workers.items()
        },
    }


def format_data_markdown(results: DataResults, *, machine: Mapping[str, str]) -> str:
    """What is printed, and benchmark_data.md holds; for the arguments see `data_results_as_dict`."""
    head = [f"- {name}: {value}" for name, value in _machine(machine).items()]
    height, width = results.size
    head.append(
        f"- pictures: {results.pictures} pairs of PNGs of {width}x{height} pixels, images of "
        f"{results.image_bytes / 1e6:.2f} MB, labels of {results.label_bytes / 1e3:.0f} kB; scales "
        f"{', '.join(f'{scale:g}' for scale in SCALES)}, each as often as the others"
    )
    rounds = len(results.loading[PLAIN].cpu_seconds)
    explanation = (
        f"Medians of {rounds} rounds in which all ways load the same samples in turn; files and cache are in memory "
        "after the first. Plain is what frameworks of Detectron2's kind do, the published code among them: decode into "
        "a BGR array, resize and flip all of the image, crop, each from array to array, and normalise on the CPU. Lean "
        "is the same with Pillow's images up to the crop. The others are the library's, with the settings named."
    )
    parts = ["# Loading data", "\n".join(head), explanation]
    parts += ["## One process", _loading_table(results), "## Decoding alone", _decoding_table(results)]
    if results.with_workers:
        parts += ["## Through a loader", _workers_table(results)]
    return "\n\n".join(parts) + "\n"


def _machine(machine: Mapping[str, str]) -> dict[str, str]:
    return {**machine, "opencv": cv2.__version__, "Pillow": PIL.__version__}


def _loading_table(results: DataResults) -> str:
    rows = []
    for name, rate in results.loading.items():
        milliseconds = f"{1e3 * rate.median_cpu_seconds:.2f}"
        rows.append([name, milliseconds, f"{1 / rate.median_cpu_seconds:.1f}", f"{_ratio(results, rate):.2f}"])
    return markdown_table(rows, headers=["way", "CPU ms per sample", "samples per CPU s", "ratio"], num_names=1)


def _decoding_table(results: DataResults) -> str:
    rows = [[name, f"{1e3 * rate.median_cpu_seconds:.2f}"] for name, rate in results.decoding.items()]
    return markdown_table(rows, headers=["decoder", "CPU ms per image"], num_names=1)


def _workers_table(results: DataResults) -> str:
    rows = []
    for name, rates in results.with_workers.items():
        for number, rate in rates.items():
            figures = [f"{rate.median_samples_per_second:.1f}", f"{1e3 * rate.median_cpu_seconds:.2f}"]
            rows.append([name, str(number), *figures])
    return markdown_table(rows, headers=["way", "workers", "samples per s", "CPU ms per sample"], num_names=1)


def _ratio(results: DataResults, rate: Rate) -> float:
    """Median over the rounds, in each of which both loaded the same samples."""
    pairs = zip(results.loading[PLAIN].cpu_seconds, rate.cpu_seconds, strict=True)
    return median(plain / own for plain, own in pairs)


def _rate(rate: Rate) -> dict[str, Any]:
    return {
        "cpu_seconds": {"median": rate.median_cpu_seconds, "all": list(rate.cpu_seconds)},
        "samples_per_second": {"median": rate.median_samples_per_second, "all": list(rate.samples_per_second)},
    }
