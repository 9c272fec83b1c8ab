"""Reports of small evaluations: a model with few gates, written files and their tables."""

from dl_lib.evaluation.report.write import write_report
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.modeling.dynamic.route import Route
from tests.helpers.evaluation import FakeModel

LATTICE = Lattice([2])
WHOLE = Route.whole(LATTICE, gated=True)


class ModelOfLattice(FakeModel):
    """Model with the gates of `LATTICE`."""

    def output(self, sample):
        output = super().output(sample)
        output["gates"] = output["gates"][: len(LATTICE.edges)]
        return output


def write(results, folder, *, targets=None, shown=None, route=WHOLE):
    settings = {"targets": targets or {}, "shown": shown or {}, "route": route, "parameters": 1234}
    return write_report(results, output_dir=folder, **settings)


def markdown_rows(text):
    """Return {first cell: other cells} of all tables of a Markdown document."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}
