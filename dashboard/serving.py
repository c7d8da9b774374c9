"""Serving the dashboard from one machine to those who may reach it."""

import socket
import threading
import webbrowser
from collections.abc import Callable

from flask import Flask
from waitress.server import create_server

from costmodels.errors import SpecError

_THREADS = 8
_BODY_BYTES = 4 * 1024 * 1024


def serve(
    server: Flask,
    host: str,
    port: int,
    *,
    query: str = "",
    announce: Callable[[str], object],
    opens_browser: bool = False,
) -> None:
    """Serve until the process is told to end.

    Parameters
    ----------
    server : flask.Flask
        The application.
    host : str
        Address to listen on.
    port : int
        Port; 0 for any that is free.
    query : str
        What the first address states.
    announce : callable
        Takes the address once the server listens there.
    opens_browser : bool
        Whether to open a browser there.

    Raises
    ------
    SpecError
        If nothing can listen there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        bound = socket.create_server((host.strip("[]"), port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SpecError(f"--port {port}: cannot listen on {host}: {reason}") from None
    found_port = bound.getsockname()[1]
    listening = create_server(
        server,
        sockets=[bound],
        threads=_THREADS,
        max_request_body_size=_BODY_BYTES,
        ident="shardwise",
    )
    shown = "localhost" if host in ("127.0.0.1", "localhost") else host
    address = f"http://{shown}:{found_port}/{query}"
    announce(address)
    if opens_browser:
        threading.Timer(0.5, webbrowser.open, [address]).start()
    try:
        listening.run()
    finally:
        listening.close()
