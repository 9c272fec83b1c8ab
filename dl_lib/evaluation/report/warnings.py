"""Warnings about an evaluation: classes that are never predicted, gates that do not decide, imbalanced classes."""

from __future__ import annotations

from dl_lib.data.class_imbalance import imbalance_warning
from dl_lib.evaluation.scores.metrics import SegmentationMetrics
from dl_lib.evaluation.scores.result import EvaluationResult
from dl_lib.evaluation.scores.routes import GateSaturation, RouteStatistics, gate_saturation
from dl_lib.modeling.dynamic.route import Route
from dl_lib.utils.names import joined

__all__ = ["result_warnings"]

_MAX_LISTED = 10  # class names
_SATURATED_FROM = 0.95  # ratio of the learned gates


def result_warnings(result: EvaluationResult, *, route: Route | None = None) -> tuple[str, ...]:
    """Return the warnings about a result, a sentence each; class names in them are not escaped.

    Args:
        result: Result on a dataset.
        route: Route of the network, which tells learned gates from fixed ones; without it, all gates are learned.
    """
    found = []
    if result.metrics is not None:
        classes = result.metrics.classes
        pixels = [score.true_pixels for score in classes]
        found += [
            _never_predicted(result.metrics),
            imbalance_warning(pixels, class_names=[score.name for score in classes]),
        ]
    if result.reported_routes is not None and result.gates is not None:
        learned = None if route is None else [route.gates.get(edge, 1.0) is None for edge in route.lattice.edges]
        found.append(_gate_warning(result.reported_routes, gate_saturation(result.gates.numpy(), learned=learned)))
    return tuple(sentence for sentence in found if sentence is not None)


def _never_predicted(metrics: SegmentationMetrics) -> str | None:
    labelled = [score for score in metrics.classes if score.true_pixels]
    missed = [repr(score.name) for score in labelled if not score.predicted_pixels]
    if not missed:
        return None
    return (
        f"Never predicted, although labelled: {joined(missed, limit=_MAX_LISTED)} ({len(missed)} of {len(labelled)} "
        "classes)."
    )


def _gate_warning(routes: RouteStatistics, saturation: GateSaturation) -> str | None:
    """Return a sentence about an effectively static network, or about one whose gates are nearly all saturated."""
    is_saturated = saturation.ratio >= _SATURATED_FROM
    ends = (
        f"of {saturation.learned} learned gates, {saturation.at_zero} are 0 and {saturation.at_one} are 1 for every "
        "image"
    )
    if not routes.ever_open:
        return "The network is effectively static: all gates are closed for every image; see docs/routing.md."
    if routes.is_static:
        return (
            f"The network is effectively static: of the {routes.ever_open} edges that are open for any image, "
            f"{routes.image_dependent} ({100 * routes.dependent_ratio:.1f} %) depend on the image"
            f"{f', and {ends}' if is_saturated else ''}; see docs/routing.md."
        )
    return f"Saturated gates: {ends}; see docs/routing.md." if is_saturated else None
