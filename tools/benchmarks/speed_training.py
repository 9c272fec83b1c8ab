"""Time and memory of training steps, relative to the baseline."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from harness import Run, Settings, measure_memory, time_cases
from networks import baseline_of, build_network
from report import Samples, Table
from training_steps import TrainingCase, optimizer_step, random_batch

STEPS = ((1, 768), (2, 256))  # images and side


@dataclass(frozen=True)
class BaselineTrainingCase(TrainingCase):
    """Training step of the baseline with plain SGD."""

    def prepare(self, settings: Settings) -> Run:
        cfg = self.config(settings)
        model = build_network(cfg)
        baseline = baseline_of(model).train()
        batch = random_batch(cfg, num_images=self.images, device=model.device)
        images = torch.stack([(sample["image"] - model.pixel_mean) / model.pixel_std for sample in batch])
        labels, ignored = torch.stack([sample["sem_seg"] for sample in batch]), cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
        optimizer = torch.optim.SGD(baseline.parameters(), lr=1e-4, momentum=0.9, weight_decay=1e-4, foreach=False)
        return optimizer_step(optimizer, lambda: (baseline.loss(images, labels, ignore_value=ignored), 0.0))


def measure_steps(settings: Settings, *, rounds: int) -> tuple[Table, Samples]:
    """Measure training steps with the default configuration, and with activation checkpointing."""
    rows, samples = [], {}
    for num_images, side in STEPS:
        cases = [
            BaselineTrainingCase("baseline", num_images, side),
            TrainingCase("dl_lib", num_images, side),
            TrainingCase("checkpointed", num_images, side, ("MODEL.ACTIVATION_CHECKPOINTING", True)),
        ]
        timings = time_cases(cases, settings, rounds=rounds)
        for case in cases:
            memory, seconds = measure_memory(case, settings), timings[case.name].median_seconds
            speedup = timings["baseline"].median_seconds / seconds
            rows.append((case.group, case.name, seconds, speedup, memory.peak_mib - memory.idle_mib))
            samples[f"{case.group}/{case.name}"] = timings[case.name].seconds
    columns = {"images": "", "network": "", "seconds": ".4f", "speedup": ".2f", "memory MiB": ".0f"}
    return Table("Training step of the default network", columns, rows), samples
