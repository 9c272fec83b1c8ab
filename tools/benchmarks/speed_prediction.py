"""Time and memory of predictions with all gates open, relative to the baseline: a large image, and small ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from harness import Case, Run, Settings, measure_memory, time_cases
from machine_rates import MachineRates
from networks import LARGE, NETWORKS, SMALL, Size, baseline_of, executed_gmadds, open_network, predict, random_image
from report import Samples, Table

from dl_lib.inference import optimize
from dl_lib.inference.precision import has_bfloat16
from dl_lib.modeling.build import resolve_device

BASELINE = "baseline"
OPTIONS: dict[str, dict[str, Any]] = {  # of `optimize`, by the name of the network in tables
    "dl_lib": {},
    "dl_lib, bf16": {"precision": "bf16"},
    "dl_lib, compiled": {"compile": True},
    "dl_lib, compiled, bf16": {"compile": True, "precision": "bf16"},
}
CALLS_PER_ROUND = 5  # of small images


@dataclass(frozen=True)
class PredictionCase(Case):
    """Prediction with all gates open."""

    side: str  # `BASELINE` or key of `OPTIONS`
    network: str  # key of `NETWORKS`
    size: Size
    batch_size: int = 1
    calls: int = 1  # that are timed together

    @property
    def name(self) -> str:
        return f"{self.group}/{self.side}"

    @property
    def group(self) -> str:
        return f"{self.network}/{self.batch_size}"

    def prepare(self, settings: Settings) -> Run:
        predict_once = self._prediction(settings)

        def run() -> float:
            *_, gflops = [predict_once() for _ in range(self.calls)]
            return gflops

        return run

    def _prediction(self, settings: Settings) -> Run:
        model = open_network(NETWORKS[self.network](settings))
        images = [random_image(self.size, device=model.device) for _ in range(self.batch_size)]
        if self.side != BASELINE:
            optimized = optimize(model, **OPTIONS[self.side])
            return lambda: executed_gmadds(predict(optimized, images)[0])
        baseline = baseline_of(model).eval()
        normalized = torch.stack([(image - model.pixel_mean) / model.pixel_std for image in images])

        def run_baseline() -> float:
            with torch.inference_mode():
                baseline(normalized)
            return 0.0  # not counted

        return run_baseline


def sides(settings: Settings) -> list[str]:
    """Return the networks to compare: the baseline, and the options that this device is fast with."""
    has_bf16 = has_bfloat16(resolve_device(settings.device))
    return [BASELINE, *(name for name, options in OPTIONS.items() if has_bf16 or "precision" not in options)]


def measure_large(settings: Settings, *, rounds: int) -> tuple[Table, Samples]:
    """Measure a large image, and the peak memory."""
    cases = [PredictionCase(side, "default network", LARGE) for side in sides(settings)]
    rates, timings = MachineRates.measure(settings), time_cases(cases, settings, rounds=rounds)
    seconds = {case.side: timings[case.name].median_seconds for case in cases}
    gmadds = timings[cases[-1].name].gflops
    rows = []
    for case in cases:
        memory, own = measure_memory(case, settings), seconds[case.side]
        fractions = gmadds / own / rates.matmul, gmadds / own / rates.convolution
        rows.append((case.side, own, seconds[BASELINE] / own, *fractions, memory.peak_mib - memory.idle_mib))
    columns = {"network": "", "seconds": ".4f", "speedup": ".2f", "matmul fraction": ".3f"}
    columns |= {"convolution fraction": ".3f", "memory MiB": ".0f"}
    size = "{}x{}".format(*LARGE)
    title = f"Default network, {size}, all gates open ({gmadds:.1f} GMAC; {rates})"
    return Table(title, columns, rows), {name: timing.seconds for name, timing in timings.items()}


def measure_small(settings: Settings, *, rounds: int) -> tuple[Table, Samples]:
    """Measure images per second of the quickstart's network."""
    rows, samples = [], {}
    for batch_size in (1, 16):
        cases = [PredictionCase(side, "quickstart", SMALL, batch_size, CALLS_PER_ROUND) for side in sides(settings)]
        timings = time_cases(cases, settings, rounds=rounds * CALLS_PER_ROUND)
        rates = [CALLS_PER_ROUND * batch_size / timings[case.name].median_seconds for case in cases]
        rows += [(case.side, batch_size, rate, rate / rates[0]) for case, rate in zip(cases, rates, strict=True)]
        samples |= {name: timing.seconds for name, timing in timings.items()}
    columns = {"network": "", "batch size": "d", "images/s": ".1f", "speedup": ".2f"}
    return Table("Quickstart's network, {}x{}, all gates open".format(*SMALL), columns, rows), samples
