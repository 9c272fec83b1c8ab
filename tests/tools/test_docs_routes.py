"""docs/routes.md: up to date, with a figure of each named route."""

import pytest
from docs_routes import FIGURES, PAGE, PUBLISHED, measure_all, page

from dl_lib.modeling.dynamic.named_routes import NAMED_ROUTES


def test_the_page_is_up_to_date_and_hrnet_has_the_published_cost():
    costs = measure_all()
    assert PAGE.read_text(encoding="utf-8") == page(costs), "run: python tools/docs_routes.py"
    assert sorted(path.stem for path in FIGURES.iterdir()) == sorted(NAMED_ROUTES)
    published = PUBLISHED["hrnet"]
    assert costs["hrnet"].published_gflops == pytest.approx(published.gflops, abs=0.05)
    assert costs["hrnet"].parameters / 1e6 == pytest.approx(published.parameters, abs=0.05)
