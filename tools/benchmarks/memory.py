"""Peak memory of training steps and predictions that `dl_lib inspect` predicts, and that torch allocates.

    PYTHONPATH=. python tools/benchmarks/memory.py Quickstart:96x96:16 Seg.Layer16:128x256:2 Digits.ReXNet:96x96:8

Measured on the CPU by the profiler of torch, on a GPU (`--device cuda`) by its allocator. Random weights, all gates
open.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from harness import Settings
from report import describe_machine
from tabulate import tabulate

from dl_lib.engine import build_configured_model
from dl_lib.engine.memory_estimate import estimate_inference, estimate_training
from dl_lib.experiment.experiment import load_experiment
from dl_lib.modeling import DynamicNet4Seg, SegmentationModel
from dl_lib.modeling.dynamic.forced_gates import force_gates
from tests.helpers.memory import measured_peak_bytes, random_batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", metavar="CONFIG:HxW:N", help="experiment, image size and images")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    arguments = parser.parse_args()
    rows = [row for case in arguments.cases for row in _rows(case, device=arguments.device)]
    headers = ["network", "image", "images", "execution", "predicted MiB", "measured MiB", "difference (%)"]
    print(tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True))
    print(
        "\n"
        + "\n".join(f"- {name}: {value}" for name, value in describe_machine(Settings(device=arguments.device)).items())
    )


def _rows(case: str, *, device: str) -> Iterator[list[str]]:
    name, size_text, count = case.split(":")
    height, width = map(int, size_text.split("x"))
    size, num_images = (height, width), int(count)
    cfg = load_experiment(name, [f"MODEL.DEVICE={device}"], purpose="evaluation").cfg
    cfg = cfg.with_values({"MODEL.BUDGET.CONSTRAIN": False})
    for execution, predict in {"training step": estimate_training, "prediction": estimate_inference}.items():
        model = build_configured_model(cfg)
        assert isinstance(model, SegmentationModel)
        if isinstance(model, DynamicNet4Seg):
            force_gates(model.backbone, lambda edge: True)
        estimate = predict(cfg, model, size=size, num_images=num_images).peak_bytes
        batch = random_batch(size, num_images=num_images)
        peak = measured_peak_bytes(cfg, model, batch, training=execution == "training step")
        mib = (f"{count / 2**20:.1f}" for count in (estimate, peak))
        yield [name, size_text, str(num_images), execution, *mib, f"{100 * (estimate / peak - 1):+.1f}"]


if __name__ == "__main__":
    main()
