"""Benchmark of few images per forward pass: settings of the variants, rows, divergence and table."""

import json

import one_gpu
import pytest
from one_gpu import VARIANTS, Variant, main
from routing_training import load_config

from dl_lib.engine.training.non_finite import NonFiniteLossError


@pytest.mark.parametrize(
    ("variant", "steps", "warmup", "lr"),
    [
        (Variant("BN", 16), 200, 50, 0.05),
        (Variant("BN", 4, 4), 200, 50, 0.05),
        (Variant("GN", 2, lr=1 / 8), 1600, 400, 0.00625),
        (Variant("BN", 2, same_steps=True), 200, 50, 0.05),
    ],
)
def test_variants_see_equally_many_images(variant, steps, warmup, lr):
    solver = load_config(variant.settings(0, images=3200, opts=()), root=one_gpu.ROOT).SOLVER
    assert (steps, warmup) == (solver.LR_SCHEDULER.MAX_ITER, solver.LR_SCHEDULER.WARMUP_ITERS)
    assert (lr, variant.images * variant.passes) == (solver.OPTIMIZER.BASE_LR, solver.IMS_PER_BATCH)
    assert len({variant.name for variant in VARIANTS}) == len(VARIANTS)


def test_finished_runs_are_kept_and_a_diverged_run_is_a_row(tmp_path, monkeypatch):
    trained = []

    def train(function, settings, *, folder, root, threads):
        trained.append(folder.parent.name)
        if "BN-1x1" in str(folder):
            raise NonFiniteLossError("loss_sem_seg is nan")
        folder.mkdir(parents=True)
        lines = [{"iteration": i, "loss_sem_seg": 10.0 - i} for i in range(10)]
        (folder / "metrics.json").write_text("\n".join(map(json.dumps, lines)))
        return dict.fromkeys(one_gpu.MEASURED, 0) | {"mIoU": 0.25, "machine": {"CPU": "tested"}}

    monkeypatch.setattr(one_gpu, "in_fresh_process", train)
    words = ["--output", str(tmp_path), "--runs", str(tmp_path / "runs"), "--only", "BN-1x1-lr1,GN-16x1*"]
    for _ in range(2):
        main(words)
    assert trained == ["GN-16x1-lr1", "BN-1x1-lr1"]
    text = (tmp_path / "results.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert rows[2:] == [
        ["GN", "16", "1", "1", "3,200", "", "1.000", "25.0", "1"],
        ["BN", "1", "1", "1", "3,200", "yes", "-", "diverged", "1"],
    ]
    with pytest.raises(SystemExit):
        main(["--only", "BN-3x1"])
