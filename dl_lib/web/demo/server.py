"""Local server of the demo: one page, and predictions for the photos that it sends."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import BadRequest, Forbidden, HTTPException, MethodNotAllowed, NotFound, RequestEntityTooLarge
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from dl_lib.config import ConfigError
from dl_lib.data.errors import DataError

if TYPE_CHECKING:
    from dl_lib.web.demo.photo_model import PhotoModel

__all__ = ["HOST", "MAX_BYTES", "DemoApp", "make_demo_server"]

HOST = "127.0.0.1"  # other machines cannot connect
MAX_BYTES = 32 * 2**20  # of a photo

_FILES = {  # by path: file in dl_lib/web/, and its type
    "/": ("demo/static/demo.html", "text/html"),
    "/demo.js": ("demo/static/demo.js", "text/javascript"),
    "/demo.css": ("demo/static/demo.css", "text/css"),
    "/theme.css": ("pages/templates/theme.css", "text/css"),
    "/lattice.css": ("pages/templates/lattice.css", "text/css"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class _QuietHandler(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        """Log no request: the page shows the results."""


class DemoApp:
    """WSGI application of the demo.

    `GET /` returns the page, `GET /settings` the name of the run and its default gate threshold as JSON, and
    `POST /predict?threshold=T`, with the content of an image file as body, the result of `PhotoModel.predict` as JSON.
    Errors are JSON as well: `{"error": message}`.

    Args:
        model: Model that predicts the photos.
        run_name: Name of the run, for the page.
    """

    def __init__(self, model: PhotoModel, *, run_name: str) -> None:
        self._model = model
        self._settings = {"run": run_name, "threshold": model.default_threshold}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        request = Request(environ)
        request.max_content_length = MAX_BYTES
        request.trusted_hosts = [HOST, "localhost"]  # a foreign page may give this address another name
        try:
            response = self._respond(request)
        except RequestEntityTooLarge:
            limit = f"A photo must have at most {MAX_BYTES // 2**20} MiB; make it smaller"
            response = _json({"error": f"{limit}. Received: {request.content_length} bytes"}, status=413)
        except HTTPException as error:
            response = _json({"error": error.description}, status=error.code or 500)
        except DataError as error:
            response = _json({"error": str(error)}, status=422)
        response.headers.update(_HEADERS)
        return response(environ, start_response)

    def _respond(self, request: Request) -> Response:
        host, origin = request.host, request.headers.get("Origin")  # an untrusted host is an error
        if origin is not None and origin != f"http://{host}":
            raise Forbidden(f"Only the page of this server may send requests. Received: Origin={origin!r}")
        if request.path == "/predict":
            _check_method(request, "POST")
            return _json(self._model.predict(request.get_data(), threshold=self._threshold(request)))
        _check_method(request, "GET", "HEAD")
        if request.path == "/settings":
            return _json(self._settings)
        if request.path not in _FILES:
            raise NotFound(f"There is no such page. Received: path={request.path!r}")
        name, content_type = _FILES[request.path]
        return Response(files("dl_lib.web").joinpath(name).read_bytes(), mimetype=content_type)

    def _threshold(self, request: Request) -> float | None:
        text = request.args.get("threshold")
        if text is None or self._model.default_threshold is None:
            return None
        try:
            threshold = float(text)
        except ValueError:
            threshold = -1.0
        if not 0 <= threshold < 1:
            raise BadRequest(f"threshold must be a number in [0, 1). Received: threshold={text!r}")
        return threshold


def make_demo_server(app: DemoApp, *, port: int) -> BaseWSGIServer:
    """Return a server of the app on this machine only; its `port` is that of `port`, or a free one for 0.

    Raises:
        ConfigError: If the port is in use.
    """
    try:
        with socket.create_server((HOST, port)) as bound:
            server = make_server(
                HOST, bound.getsockname()[1], app, threaded=True, request_handler=_QuietHandler, fd=bound.fileno()
            )
    except OSError as error:
        raise ConfigError(
            f"--port: cannot be used ({os.strerror(error.errno or 0)}); choose another one, or 0 for any that is free. "
            f"Received: --port={port}"
        ) from error
    return server


def _check_method(request: Request, *methods: str) -> None:
    if request.method not in methods:
        raise MethodNotAllowed(methods, f"Use {methods[0]}. Received: method={request.method!r}")


def _json(value: Any, *, status: int = 200) -> Response:
    return Response(json.dumps(value, allow_nan=False), status=status, mimetype="application/json")
