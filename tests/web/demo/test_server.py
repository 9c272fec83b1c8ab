"""Demo server: what it serves, whom it refuses, and how it bounds uploads."""

import io
import threading
import urllib.request

import numpy as np
import pytest
from PIL import Image
from werkzeug.test import Client

from dl_lib.config import ConfigError
from dl_lib.data import DatasetCatalog
from dl_lib.prediction.predictor import Predictor
from dl_lib.web.demo import photo_model, server
from dl_lib.web.demo.photo_model import PhotoModel
from dl_lib.web.demo.server import DemoApp, make_demo_server
from tests.helpers.prediction_run import make_dataset, make_run

HOST = "127.0.0.1:8008"


@pytest.fixture(scope="module")
def predictor(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    run = make_run(folder / "run", data=make_dataset(folder / "data"), gate_logit=0.5)
    with pytest.MonkeyPatch.context() as patch:  # the dataset of the run is registered only meanwhile
        patch.setattr(DatasetCatalog, "_entries", dict(DatasetCatalog._entries))
        return Predictor.from_run(run)


@pytest.fixture(scope="module")
def model(predictor):
    return PhotoModel(predictor)


@pytest.fixture(scope="module")
def client(model):
    return Client(DemoApp(model, run_name="a <b> run"))


def photo():
    rng = np.random.default_rng(0)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (32, 40, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def post(client, data, *, query="", **headers):
    return client.post(f"/predict{query}", data=data, headers={"Host": HOST, **headers})


@pytest.mark.parametrize(
    ("path", "kind"), [("/", "text/html"), ("/demo.js", "text/javascript"), ("/lattice.css", "text/css")]
)
def test_files_of_the_page(client, path, kind):
    response = client.get(path, headers={"Host": HOST})
    assert (response.status_code, response.mimetype) == (200, kind)
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]


def test_settings(client, model):
    settings = client.get("/settings", headers={"Host": HOST}).json
    assert settings == {"run": "a <b> run", "threshold": model.default_threshold}


def test_prediction_equals_the_predictor(client, predictor):
    data = photo()
    expected = predictor(np.array(Image.open(io.BytesIO(data))))
    result = post(client, data).json
    counts = np.bincount(expected.classes.ravel(), minlength=len(expected.meta.class_names)) / expected.classes.size
    fractions = {entry["name"]: entry["fraction"] for entry in result["classes"]}
    assert fractions == {name: count for name, count in zip(expected.meta.class_names, counts, strict=True) if count}
    assert result["gflops"] == expected.gflops["executed"]
    assert f"{int(expected.route.active_BE.sum())} of 4 edges are open" in result["route"]
    assert result["unchanged"] == 1
    assert result["overlay"].startswith("data:image/jpeg;base64,")


def test_only_short_first_predictions_of_a_size_are_repeated_for_their_time(predictor, monkeypatch):
    model, runs = PhotoModel(predictor), []
    with predictor.model.register_forward_pre_hook(lambda *_: runs.append(1)):
        model.predict(photo(), threshold=None)
        assert len(runs) == 2
        model.predict(photo(), threshold=None)
        assert len(runs) == 3
        monkeypatch.setattr(photo_model, "_MAX_SECONDS_TWICE", 0)
        PhotoModel(predictor).predict(photo(), threshold=None)
        assert len(runs) == 4


def test_a_threshold_closes_gates_for_its_photo_only(client):
    data = photo()
    default, closed, again = (post(client, data, query=query).json for query in ("", "?threshold=0.99", ""))
    assert closed["gflops"] < default["gflops"] == again["gflops"]
    assert 0 <= closed["unchanged"] < 1


def test_photos_of_two_clients_at_once_keep_their_thresholds(client):
    data = photo()
    queries = ["", "?threshold=0.99"] * 4
    expected = {query: post(client, data, query=query).json["gflops"] for query in queries[:2]}
    costs = {}

    def send(number, query):
        costs[number] = post(client, data, query=query).json["gflops"]

    threads = [threading.Thread(target=send, args=item) for item in enumerate(queries)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [costs[number] for number in range(len(queries))] == [expected[query] for query in queries]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 400),  # DNS rebinding
        ({"Host": "localhost:8008"}, 200),
        ({"Origin": f"http://{HOST}"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),  # a sandboxed frame
    ],
)
def test_foreign_pages_are_refused(client, headers, status):
    assert client.get("/settings", headers={"Host": HOST, **headers}).status_code == status
    assert post(client, photo(), **headers).status_code == status


@pytest.mark.parametrize("threshold", ["", "nan", "-0.1", "1", "1e999", "x"])
def test_invalid_thresholds_are_refused(client, threshold):
    response = post(client, photo(), query=f"?threshold={threshold}")
    assert response.status_code == 400
    assert f"Received: threshold={threshold!r}" in response.json["error"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        *((b"", "the photo is not an image"), (b"text", "Received: 4 bytes starting with b'text'")),
        *(
            (photo()[:200], "is damaged"),
            (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "must not be PostScript"),
        ),
    ],
)
def test_other_data_is_refused(client, data, message):
    response = post(client, data)
    assert response.status_code == 422
    assert message in response.json["error"]


def test_uploads_are_bounded(client, monkeypatch):
    monkeypatch.setattr(server, "MAX_BYTES", 2**20)
    response = post(client, bytes(2**20 + 1))
    assert response.status_code == 413
    assert response.json["error"] == "A photo must have at most 1 MiB; make it smaller. Received: 1048577 bytes"


def test_pixels_are_bounded_before_decoding(client, monkeypatch):
    monkeypatch.setattr(photo_model, "decode_image", None)
    monkeypatch.setattr(photo_model, "MAX_PIXELS", 40 * 32 - 1)
    response = post(client, photo())
    assert response.status_code == 422
    assert "Received: 40x32 pixels" in response.json["error"]


@pytest.mark.parametrize("path", ["/../demo.html", "/static/demo.html", "/server.py", "/%2e%2e/server.py"])
def test_no_other_files(client, path):
    assert client.get(path, headers={"Host": HOST}).status_code == 404


def test_methods(client):
    assert client.get("/predict", headers={"Host": HOST}).status_code == 405
    assert client.post("/settings", headers={"Host": HOST}).status_code == 405


def test_port_in_use_and_address(model):
    app = DemoApp(model, run_name="run")
    running = make_demo_server(app, port=0)
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    try:
        assert running.server_address[0] == "127.0.0.1"
        with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/settings") as response:
            assert response.status == 200
        with pytest.raises(ConfigError, match=r"--port: cannot be used .*Received: --port="):
            make_demo_server(app, port=running.port)
    finally:
        running.shutdown()
        thread.join()
