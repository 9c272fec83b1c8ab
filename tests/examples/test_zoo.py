"""Code in docs/zoo.md."""

import re
from pathlib import Path

ZOO = Path(__file__).parents[2] / "docs/zoo.md"


def test_backbones_alone_return_feature_maps():
    code, _ = re.findall(r"```python\n(.*?)```", ZOO.read_text(), re.DOTALL)  # the other one reads a file of weights
    names = {}
    exec(code, names)
    sizes = {name: map_.shape[-1] for name, map_ in names["features"].items()}
    assert sizes == {"c1": 112, "c2": 56, "c3": 28, "c4": 14, "c5": 7}
