"""How files and answers travel: compressed, and kept by the browser as long as they stay the same."""

import gzip
from functools import lru_cache

from flask import Flask, Response, request

_COMPRESSED = frozenset(
    {
        "application/javascript",
        "application/json",
        "application/toml",
        "image/svg+xml",
        "text/css",
        "text/csv",
        "text/html",
        "text/javascript",
    }
)
_LEAST_BYTES = 1_000
_FILES = ("/_dash-component-suites/", "/assets/")
_FOREVER = "public, max-age=31536000, immutable"
_FOR_A_WHILE = "public, max-age=600"


def deliver(server: Flask) -> None:
    """Compress what an application answers, and say how long it may be kept."""
    # What is registered last sees an answer first.
    server.after_request(_compressed)
    server.after_request(_kept)


def _kept(response: Response) -> Response:
    """Let browsers keep files.

    Addresses with a version of their own never change what they name. Others, such as plotly's, may
    after an update: they are asked for again soon, by their tag.
    """
    if response.status_code == 200 and request.path.startswith(_FILES):
        if request.path.startswith("/assets/") and request.args.get("m"):
            response.headers["Cache-Control"] = _FOREVER
        elif "max-age" not in response.headers.get("Cache-Control", ""):
            response.headers["Cache-Control"] = _FOR_A_WHILE
    return response


def _compressed(response: Response) -> Response:
    if response.mimetype not in _COMPRESSED or response.status_code != 200:
        return response
    response.vary.add("Accept-Encoding")
    if not request.accept_encodings["gzip"] or "Content-Encoding" in response.headers:
        return response
    response.direct_passthrough = False
    content = response.get_data()
    if len(content) < _LEAST_BYTES:
        return response
    is_file = request.path.startswith(_FILES)
    # Answers are each sent once: the quickest level halves the time and costs a tenth of the size.
    response.set_data(_packed_file(content) if is_file else gzip.compress(content, 1, mtime=0))
    response.headers["Content-Encoding"] = "gzip"
    return response


@lru_cache(maxsize=64)
def _packed_file(content: bytes) -> bytes:
    return gzip.compress(content, 6, mtime=0)
