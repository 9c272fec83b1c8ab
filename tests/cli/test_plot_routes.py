"""Command `dl_lib plot-routes` on evaluations and on invalid arguments."""

from unittest.mock import patch

import numpy as np
import pytest

from dl_lib.cli.main import main
from dl_lib.modeling.dynamic.lattice import Lattice
from dl_lib.visualization import route_difference, routing
from tests.helpers.evaluated_run import make_evaluated_run


def make_run(folder, *, cells=(2, 3), name="gates", scale=1.0):
    edges = list(map(str, Lattice(cells).edges))
    folder.mkdir(parents=True, exist_ok=True)
    gates = scale * np.linspace(0, 1, 2 * len(edges), dtype=np.float32).reshape(2, -1)
    ids = np.array(["val_000", "val_001"])
    np.savez_compressed(folder / f"{name}.npz", gates=gates, image_ids=ids, edges=edges, routes=np.array([1, 2]))
    return folder


def drawn(module, name, *argv):
    """Run the command; return the arguments of the function that draws."""
    with patch.object(module, name, wraps=getattr(module, name)) as draw:
        main(["plot-routes", *map(str, argv)])
    return draw.call_args.kwargs


def rejected(capsys, *argv):
    with pytest.raises(SystemExit) as ended:
        main(["plot-routes", *map(str, argv)])
    assert ended.value.code == 2
    return capsys.readouterr().err


def test_mean_image_and_difference(tmp_path, capsys):
    first, second = make_run(tmp_path / "a"), make_run(tmp_path / "b", scale=0.5)
    gates = np.load(first / "gates.npz")["gates"].astype(float)
    shown = drawn(routing, "draw_routing", first, "--output", tmp_path / "x" / "mean.png")
    assert shown["gates"] == pytest.approx(gates.mean(axis=0)) and shown["title"] == "Mean routing: a"
    assert shown["open_ratios"] == (gates > 0).mean(axis=0).tolist()
    assert f"Wrote {tmp_path / 'x' / 'mean.png'}" in capsys.readouterr().out
    assert (tmp_path / "x" / "mean.png").read_bytes().startswith(b"\x89PNG")
    shown = drawn(routing, "draw_routing", first, "--image", "val_001", "--output", tmp_path / "image.pdf")
    assert shown["gates"] == gates[1].tolist() and shown["open_ratios"] is None
    assert b"/Type3" not in (tmp_path / "image.pdf").read_bytes(), "text is embedded as TrueType"
    shown = drawn(route_difference, "draw_route_difference", first, second, "--output", tmp_path / "change.svg")
    assert shown["second"] == pytest.approx(0.5 * np.array(shown["first"])) and shown["names"] == ("a", "b")
    assert (tmp_path / "change.svg").read_text().startswith("<?xml")


def test_errors(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, deeper = make_run(tmp_path / "run"), make_run(tmp_path / "deeper", cells=(2, 3, 3))
    several = make_run(make_run(tmp_path / "several", name="gates_fine_val"), name="gates_fine_test")
    (tmp_path / "empty").mkdir()
    assert "gates.npz cannot be read (No such file" in rejected(capsys, tmp_path / "empty")
    assert "--image: no such image; nearest: val_001, val_000. Received: val_01" in rejected(
        capsys, run, "--image", "val_01"
    )
    assert "Received: [2, 3] and [2, 3, 3]" in rejected(capsys, run, deeper)
    assert "RUN: one run, or two to compare. Received: 3 runs" in rejected(capsys, run, deeper, several)
    assert "RUN: two runs to compare must be different folders" in rejected(capsys, run, run)
    assert "add --dataset NAME. Received: ['fine_test', 'fine_val']" in rejected(capsys, several)
    assert "nearest: fine_val, fine_test. Received: fine_va" in rejected(capsys, several, "--dataset", "fine_va")
    of_one_dataset = make_evaluated_run(tmp_path / "one")
    assert "nearest: some_val. Received: other_val" in rejected(capsys, of_one_dataset, "--dataset", "other_val")
    assert "must end in one of .png, .svg, .pdf" in rejected(capsys, run, "--output", "x.gif")
    assert not (tmp_path / "output").exists()
    main(["plot-routes", str(of_one_dataset), "--dataset", "some_val", "--output", str(tmp_path / "one.png")])
    main(["plot-routes", str(several), "--dataset", "fine_val"])
    assert (tmp_path / "output" / "routes.png").exists()
