"""Lattice as SVG: one line per edge, with the width of its gate value; text is escaped."""

from xml.etree import ElementTree

import pytest

from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.web.pages.lattice import lattice_svg

LATTICE = Lattice([2, 3])
GATES = [number / len(LATTICE.edges) for number in range(len(LATTICE.edges))]


def lines(svg):
    return {line.get("data-edge"): line for line in ElementTree.fromstring(str(svg)).iter("line")}


def test_every_edge_is_drawn_between_its_nodes_with_its_gate():
    drawn = lines(lattice_svg(LATTICE, gates=GATES, label="route"))
    assert {*drawn} == {str(edge) for edge in LATTICE.edges}
    for edge, gate in zip(LATTICE.edges, GATES, strict=True):
        line = drawn[str(edge)]
        assert line.get("class") == ("open" if gate else "closed")
        assert line.get("style") == f"--gate: {round(gate, 4)}"
        assert (line.get("data-source"), line.get("data-target")) == (str(edge.source), str(edge.target))
        assert line.find("title").text == f"{edge}: gate {gate:.3g}"
        assert float(line.get("x2")) > float(line.get("x1"))
        rise = float(line.get("y2")) - float(line.get("y1"))
        assert rise / 56 == edge.move.value


def test_notes_and_label_are_escaped():
    edge = LATTICE.edges[0]
    hostile = "</title><script>alert('1')</script>\" 語"
    svg = lattice_svg(LATTICE, gates=GATES, label=hostile, notes={edge: hostile})
    root = ElementTree.fromstring(str(svg))
    assert root.get("aria-label") == hostile
    assert lines(svg)[str(edge)].find("title").text.endswith(hostile)
    assert [*root.iter("script")] == []


def test_one_gate_per_edge():
    with pytest.raises(ValueError, match="zip"):
        lattice_svg(LATTICE, gates=GATES[1:], label="route")
