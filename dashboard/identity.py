"""Identities of elements as Dash writes them into a page."""

import json
from collections.abc import Mapping


def dom_id(identity: str | Mapping[str, str]) -> str:
    """Return the identity of an element as Dash writes it into the page.

    Examples
    --------
    >>> dom_id({"type": "field", "path": "plan.zero_stage"})
    '{"path":"plan.zero_stage","type":"field"}'
    """
    if isinstance(identity, str):
        return identity
    return json.dumps(dict(identity), sort_keys=True, separators=(",", ":"))
