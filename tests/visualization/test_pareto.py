"""Pareto fronts: filled and hollow markers, and labels that cover nothing."""

from dl_lib.visualization.pareto import ParetoPoint, draw_pareto
from tests.helpers.figures import assert_text_fits

SCORES = [81, 81.7, 81.6, 81.9, 81.7, 78.5, 46.3, 9.3, 8.1, 8.0]
GFLOPS = [0.0634, 0.0561, 0.0541, 0.0526, 0.0508, 0.0481, 0.0432, 0.0307, 0.0264, 0.0215]
OPTIMAL = [False, False, False, *[True] * 7]


def points(costs):
    rows = enumerate(zip(costs, SCORES, OPTIMAL, strict=True))
    return [ParetoPoint(f"0.{row}", cost=cost, score=score, is_optimal=best) for row, (cost, score, best) in rows]


def test_front_is_a_line_and_dominated_points_are_hollow():
    (axes,) = draw_pareto({"GFLOPs": points(GFLOPS)}, score="mIoU (%)", title="Thresholds").axes
    front, dominated = axes.get_lines()
    assert front.get_xydata().tolist() == sorted([GFLOPS[row], SCORES[row]] for row in range(3, 10))
    assert dominated.get_xydata()[:, 0].tolist() == GFLOPS[:3]
    assert (front.get_linestyle(), dominated.get_linestyle()) == ("-", "None")
    assert dominated.get_markerfacecolor() == "white"
    assert [text.get_text() for text in axes.texts] == [f"0.{row}" for row in range(10)]


def test_crowded_labels_do_not_overlap():
    panels = {"GFLOPs": points(GFLOPS), "ms": points([5 + gflops for gflops in GFLOPS[::-1]]), "s": points([1.0] * 10)}
    figure = draw_pareto({**panels, "one": points(GFLOPS)[3:4]}, score="mIoU (%)", title="Thresholds on 道路")
    assert len(figure.legends[0].get_texts()) == 2
    assert_text_fits(figure)
