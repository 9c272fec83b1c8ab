"""Routes in report files: statistics, gates of every image, shown images."""

import json
import re
from dataclasses import asdict, replace
from unittest.mock import patch

import numpy as np
import pytest
from matplotlib.figure import Figure

from dl_lib.evaluation.report.gates_file import read_gates
from dl_lib.evaluation.report.image_routes import ShownImage, shown_positions
from dl_lib.evaluation.report.tables import format_markdown, format_text
from dl_lib.evaluation.report.warnings import result_warnings
from dl_lib.evaluation.runner.run import inference_on_dataset
from dl_lib.evaluation.scores.evaluator import SemSegEvaluator
from dl_lib.evaluation.scores.routes import MIN_IMAGES
from dl_lib.modeling.costs.costs import Costs
from tests.helpers.evaluation import IGNORE, NAMES, batches_of, make_samples
from tests.helpers.reports import LATTICE, WHOLE, ModelOfLattice, markdown_rows, write


@pytest.fixture(scope="module")
def routed():
    evaluator = SemSegEvaluator("fakes", class_names=NAMES, ignore_value=IGNORE)
    return inference_on_dataset(ModelOfLattice(), batches_of(make_samples(MIN_IMAGES)), evaluator)


@pytest.fixture(scope="module")
def routed_folder(routed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("routed")
    write({"fakes": routed}, folder)
    return folder


def test_routes_are_reported(routed, routed_folder):
    routes = routed.routes
    values = json.loads((routed_folder / "results.json").read_text())["datasets"]["fakes"]["routes"]
    edges = list(map(str, LATTICE.edges))
    kinds = (routes.always_open, routes.image_dependent, routes.always_closed)
    names = ("edges_always_open", "edges_image_dependent", "edges_always_closed")
    assert tuple(values[name] for name in names) == kinds and values["edges"] == sum(kinds) == len(edges)
    assert values["image_dependent_over_ever_open"] == routes.dependent_ratio and not values["effectively_static"]
    assert (values["distinct_routes"], values["entropy_bits"]) == (len(routes.routes), routes.entropy_bits)
    assert values["real_gflops"] == {name: madds / 1e9 for name, madds in routes.real_madds.items()}
    assert values["cost_correlations"] == {name: asdict(one) for name, one in routed.cost_correlations.items()}
    assert values["most_frequent"] == [
        {
            "route": number,
            "images": route.images,
            "avg_real_gflops": route.real_madds / 1e9,
            "open_edges": [edges[column] for column in route.open_edges],
        }
        for number, route in enumerate(routes.routes[:5], 1)
    ]
    assert list(values["edge_open_ratios"].items()) == list(zip(edges, routes.open_ratios, strict=True))
    assert list(values["cell_open_ratios"]) == list(map(str, LATTICE.nodes))
    text = (routed_folder / "results.md").read_text()
    rows = markdown_rows(text)
    labels = ("edges open for every image", "edges open for some of the images", "edges closed for every image")
    assert tuple(int(rows[label][0]) for label in labels) == kinds
    assert rows["distinct routes"] == [str(len(routes.routes))]
    assert rows["entropy of the routes (bits)"] == [f"{routes.entropy_bits:.2f}"]
    assert rows["route 1"][0] == f"{100 * routes.routes[0].images / MIN_IMAGES:.1f}" and "route 6" not in rows
    assert rows["number of objects"] == [f"{routed.cost_correlations['objects'].value:+.2f}", str(MIN_IMAGES)]
    cells = [values["cell_open_ratios"][f"layer{layer}_stride4"] for layer in range(2)]
    assert [float(cell) / 100 for cell in rows["stride 4"]] == pytest.approx(cells, abs=5e-4)
    assert rows["stride 8"][0] == "", "there is no such cell"
    assert "](image_costs.png)" in text and (routed_folder / "image_costs.png").stat().st_size > 1000
    assert "4.32 bits if each of the 20 images" in text


def test_gates_file_contains_the_gates_of_every_image(routed, routed_folder):
    gates = read_gates(routed_folder / "gates.npz")
    np.testing.assert_array_equal(gates.gates, routed.gates.float().double())
    assert gates.lattice == LATTICE
    assert gates.image_ids == tuple(image.image_id for image in routed.images)
    with np.load(routed_folder / "gates.npz", allow_pickle=False) as file:
        assert tuple(file["routes"].tolist()) == routed.routes.numbers


def test_effectively_static_networks_are_named(routed):
    static = replace(routed, gates=(routed.gates[:1] > 0).double().expand(MIN_IMAGES, -1))
    opened = int(static.gates[0].sum())
    (warning,) = result_warnings(static)
    assert warning.startswith(f"The network is effectively static: of the {opened} edges ")
    assert "0 (0.0 %) depend on the image, and of 4 learned gates, " in warning
    assert {one.value for one in static.cost_correlations.values()} == {None}, (
        "costs per pixel differ by the padding only"
    )
    settings = {"targets": {}, "route": WHOLE, "figures": {"fakes": {}}}
    assert f"\n\n**Warning:** {warning}\n" in format_markdown({"fakes": static}, **settings)
    assert "static" not in format_markdown({"fakes": routed}, **settings)


def test_few_images_have_no_route_statistics():
    evaluator = SemSegEvaluator("fakes", class_names=NAMES, ignore_value=IGNORE)
    result = inference_on_dataset(ModelOfLattice(), batches_of(make_samples(4)), evaluator)
    assert result_warnings(result) == () and "distinct routes" not in format_text(result)


def test_constant_costs_have_no_correlation(routed):
    images = tuple(replace(i, costs=Costs.uniform(1e9), input_sizes=((8, 8),)) for i in routed.images)
    constant = replace(routed, images=images)
    assert {one.value for one in constant.cost_correlations.values()} == {None}
    assert re.search(rf"number of objects +- +{MIN_IMAGES}\n", format_text(constant))


@pytest.mark.parametrize("equal_costs", [False, True])
def test_shown_images_are_described(routed, tmp_path, equal_costs):
    if equal_costs:
        images = tuple(replace(i, costs=Costs.uniform(1e9), input_sizes=((8, 8),)) for i in routed.images)
        routed = replace(routed, images=images)
    pixels = np.zeros((8, 8, 3), np.uint8)
    colors = {"bar": (1, 2, 3), "disc": (4, 5, 6)}
    positions = shown_positions(routed)
    shown = [ShownImage(index, pixels, pixels, colors, 2e9) for index in positions]
    with patch("dl_lib.visualization.image_routes.draw_image_routes", return_value=Figure((1, 1))) as draw:
        write({"fakes": routed}, tmp_path, shown={"fakes": shown})
    text = (tmp_path / "results.md").read_text()
    assert "![Routes of some images on fakes](image_routes.png)" in text and (tmp_path / "image_routes.png").exists()
    drawn = draw.call_args.kwargs
    prefixes = ("", "", "") if equal_costs else ("cheapest: ", "median cost: ", "most expensive: ")
    ids = [routed.images[index].image_id for index in positions]
    assert drawn["captions"] == [prefix + name for prefix, name in zip(prefixes, ids, strict=True)]
    for index, is_open, caption in zip(positions, drawn["is_open"], drawn["route_captions"], strict=True):
        gflops = routed.images[index].costs.real / 1e9
        assert is_open == (routed.gates[index] > 0).tolist()
        edges = f"{sum(is_open)} of {len(LATTICE.edges)} edges"
        assert caption == f"real cost: {gflops:.6f} GFLOPs\n{100 * gflops / 2:.0f} % of full cost, {edges}"
    assert list(drawn["legend"]) == ["disc", "bar"], "in the order of the classes"
