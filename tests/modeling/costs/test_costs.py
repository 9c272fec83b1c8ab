"""`Costs`: conversion from and to the model's `flops` dict, and import structure of the costs of static networks."""

import pytest
import torch

from dl_lib.modeling import Costs
from tests.test_import_structure import IMPORTS

MFLOPS = {"expt_flops": 1.0, "real_flops": 2.5, "real_flops_complete": 3.0, "executed_flops": 4.0}


def test_flops_dict_is_in_mflops():
    costs = Costs.from_flops_dict(MFLOPS)
    assert costs == Costs(expected=1e6, real=2.5e6, real_complete=3e6, executed=4e6)
    assert costs.to_flops_dict() == MFLOPS
    assert (costs + costs).to_flops_dict() == {key: 2 * value for key, value in MFLOPS.items()}


@pytest.mark.parametrize("missing", MFLOPS)
def test_missing_keys_are_named(missing):
    flops = {key: value for key, value in MFLOPS.items() if key != missing}
    with pytest.raises(KeyError, match=rf"{missing} missing\. Received: flops="):
        Costs.from_flops_dict(flops)


def test_costs_of_an_image_of_a_batch():
    expected = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
    others = Costs.uniform(torch.tensor([3.0, 4.0], dtype=torch.float64))
    batch = Costs(expected, others.real, others.real_complete, others.executed)
    assert batch.of_image(1) == Costs(2.0, 4.0, 4.0, 4.0)
    assert batch.to_flops_dict()["expt_flops"].tolist() == [1e-6, 2e-6]


def test_static_networks_do_not_import_routed_ones():
    modeling = "dl_lib.modeling"
    found, pending = set(), {f"{modeling}.meta_arch.semantic_segmentor"}
    while pending:
        found |= pending
        pending = {target for source, target in IMPORTS if source in found} - found
    assert f"{modeling}.costs.static" in found
    assert {
        module for module in found if module.startswith((f"{modeling}.dynamic", f"{modeling}.costs.table"))
    } == set()
