"""Evaluation against reference values of the published code: float64 to 1e-9, float32 at lower precision."""

import numpy as np
import pytest
import torch

from dl_lib.modeling.dynamic.lattice import Node
from dl_lib.modeling.meta_arch.batching import pad_images
from tests.helpers.published import REFERENCE, batch_of, build_case, read_case

CASES = sorted(path.name.removesuffix(".json.gz") for path in (REFERENCE / "numeric").glob("*.json.gz"))
RUNS = {"im0": [0], "im1": [1], "im2_resized": [2], "im3": [3], "batch_im0_im1": [0, 1]}
FIGURE_SIZE = (1024, 2048)  # the published code counts costs at this size, whatever the image size


def run_evaluation(model, run):
    """Return outputs, routing and all gate logits for the images of a run."""
    batch = batch_of(*RUNS[run], dtype=model.pixel_mean.dtype)
    if run == "im2_resized":
        batch[0] |= {"height": 200, "width": 310}
    gate_logits = {}
    for node in model.backbone.lattice.nodes:
        gate = model.backbone.cell(node).gate
        if gate is not None:
            gate.predict.register_forward_hook(
                lambda module, x, y, node=node: gate_logits.__setitem__(node, y.detach().flatten(1))
            )
    with torch.no_grad():
        padded = pad_images([(x["image"] - model.pixel_mean) / model.pixel_std for x in batch], divisor=32)
        outputs = model(batch) if len(batch) == 1 else padded_outputs(model, padded, batch)
        _, routing = model.backbone(padded)
    return outputs, routing, gate_logits


def padded_outputs(model, padded, batch):
    """Return the outputs of one padded batch: the published model mixes sizes in evaluation, ours only in training."""
    logits = model.sem_seg_head.to_input_size(model.run(padded, step_rate=0.0).logits)
    sizes = [x["image"].shape[-2:] for x in batch]
    return [{"sem_seg": one[:, :height, :width]} for one, (height, width) in zip(logits, sizes, strict=True)]


def node_of(published_name):
    if published_name == "backbone.init_layer":
        return Node(0, 0)
    layer, scale = published_name.removeprefix("backbone.all_cell_list.").split(".")
    return Node(int(layer) + 1, int(scale))


@pytest.fixture(scope="module", params=CASES)
def case(request):
    return request.param, build_case(request.param).eval()


@pytest.mark.parametrize("execution", ["sparse", "dense"])
@pytest.mark.parametrize("run", RUNS)
def test_evaluation_matches_the_published_code(case, run, execution):
    name, model = case
    reference = read_case(name)["eval_float64"][run]
    model.backbone.sparse = execution == "sparse"
    if "error" in reference:  # image 1 is too small for the small gate, an error in both
        with pytest.raises(ValueError, match="smallest valid size is 128x128"):
            run_evaluation(model, run)
        return
    outputs, routing, gate_logits = run_evaluation(model, run)
    for output, expected in zip(outputs, reference["sem_seg"], strict=True):
        logits = output["sem_seg"]
        classes, height, width = logits.shape
        samples = [logits[7 * j % classes, (13 * j + 5) % height, (29 * j + 11) % width] for j in range(64)]
        torch.testing.assert_close(
            torch.stack(samples), torch.tensor(expected["samples"], dtype=torch.float64), rtol=1e-9, atol=1e-9
        )
        counts = torch.bincount(logits.argmax(0).flatten(), minlength=classes)
        assert counts.tolist() == expected["argmax_counts"]
    check_cells(reference["cells"], model, routing, gate_logits, sparse=execution == "sparse")
    check_costs(name, reference, model, routing)


def check_cells(cells, model, routing, gate_logits, *, sparse):
    for published_name, expected in cells.items():
        column = model.backbone.lattice.nodes.index(node_of(published_name))
        reached, opened = routing.reached_BN[:, column], routing.open_BN[:, column]
        # Published states are per batch: a cell runs if it is open for any image.
        state = "run" if opened.any() else "closed" if reached.any() else "no_input"
        assert state == expected["state"], published_name
        if "gate_logits" in expected:
            logits = gate_logits[node_of(published_name)]
            rows = [
                row
                for row, was_reached in zip(expected["gate_logits"], reached, strict=True)
                if was_reached or not sparse
            ]
            torch.testing.assert_close(logits, torch.tensor(rows, dtype=torch.float64), rtol=1e-9, atol=1e-9)


def check_costs(name, reference, model, routing):
    table = model.costs.table(*FIGURE_SIZE)
    if name.startswith("tiny_bn"):  # the published code counts BN as not affine, 1 operation instead of 2
        assert table.expected(routing).mean() / 1e6 > reference["expt_flops"]
        return
    assert table.expected(routing).mean() / 1e6 == pytest.approx(reference["expt_flops"], rel=1e-9)
    square_head = model.costs.table(FIGURE_SIZE[0], FIGURE_SIZE[0]).head  # its head used the height as the width
    real = table.real(routing).mean() - table.head + square_head
    assert real / 1e6 == pytest.approx(reference["real_flops"], rel=1e-7)  # float32 in the published code


@pytest.mark.parametrize("name", ["tiny__mix3", "tiny_small__mix3"])
def test_float32_logits_at_stride_4(name):
    model = build_case(name, dtype=torch.float32).eval()
    expected = torch.from_numpy(np.load(REFERENCE / "numeric" / f"{name}.logits_s4_im2_resized.npy"))
    with torch.no_grad():
        images = pad_images([x["image"] - model.pixel_mean for x in batch_of(2, dtype=torch.float32)], divisor=32)
        features, _ = model.backbone(images)
        logits = model.sem_seg_head(features)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
