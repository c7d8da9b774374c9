"""What every answer to a browser carries, and who may ask."""

import hmac
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import NamedTuple

from flask import Flask, Response, current_app, request

MOST_BYTES = 2 * 1024 * 1024
"""Largest request, uploads included [byte]."""

_POLICY = (
    "default-src 'none'; script-src 'self' {hashes}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
    "worker-src 'self' blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)
_HEADERS: Mapping[str, str] = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
HEALTH = "/healthz"


class Access(NamedTuple):
    """Who may ask.

    Attributes
    ----------
    user, password : str
        What a browser must send; both empty where nobody is asked.
    hosts : tuple of str
        Names under which the server may be reached, none for any.
    """

    user: str = ""
    password: str = ""
    hosts: tuple[str, ...] = ("127.0.0.1", "localhost", "[::1]")


def read_access(credentials: str | None, hosts: tuple[str, ...]) -> Access:
    """Return the access that ``USER:PASSWORD``, or a token alone, describes."""
    user, colon, password = (credentials or "").partition(":")
    if credentials and not colon:
        user, password = "token", credentials
    return Access(user, password, hosts)


def secure(server: Flask, access: Access) -> None:
    """Limit requests, and ask for a password where there is one."""
    server.config["MAX_CONTENT_LENGTH"] = MOST_BYTES
    if access.hosts:
        server.config["TRUSTED_HOSTS"] = list(access.hosts)

    def check() -> Response | None:
        if not access.password or request.path == HEALTH:
            return None
        given = request.authorization
        user = (given.username or "") if given else ""
        password = (given.password or "") if given else ""
        # Both are compared whatever the first says, so that time tells nothing.
        fine = [
            hmac.compare_digest(user.encode(), access.user.encode()),
            hmac.compare_digest(password.encode(), access.password.encode()),
        ]
        if all(fine):
            return None
        realm = {"WWW-Authenticate": 'Basic realm="Shardwise", charset="UTF-8"'}
        return Response("a user and a password are needed", 401, realm)

    server.config[_ACCESS_KEY] = access
    server.before_request(check)
    server.after_request(_add_headers)


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address.

    Examples
    --------
    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def is_trusted() -> bool:
    """Return whether who asks may run programs: with a password, or from this very machine."""
    access: Access = current_app.config[_ACCESS_KEY]
    if access.password:
        return True
    # A proxy in front asks from this machine too, but by another name, or it says for whom.
    local = bool(access.hosts) and all(is_loopback(name) for name in access.hosts)
    passed_on = any(name in request.headers for name in ("Forwarded", "X-Forwarded-For", "Via"))
    return local and not passed_on and is_loopback(request.remote_addr or "")


_ACCESS_KEY = "SHARDWISE_ACCESS"
_POLICY_KEY = "SHARDWISE_POLICY"


def allow_scripts(server: Flask, hashes: Sequence[str]) -> None:
    """Allow the scripts that stand within pages, by their hashes, once they are known."""
    server.config[_POLICY_KEY] = _POLICY.format(hashes=" ".join(hashes))


def _add_headers(response: Response) -> Response:
    """Say with every answer what a browser may load and run."""
    policy = current_app.config.get(_POLICY_KEY, _POLICY.format(hashes=""))
    response.headers["Content-Security-Policy"] = policy
    for name, value in _HEADERS.items():
        response.headers[name] = value
    return response
