"""Paths that middleware treats differently, in one place."""

from __future__ import annotations

from service.error_responses import GOOGLE_PREFIX

HEALTH = frozenset({"/healthz", "/readyz"})
"""For probes: no key, no rate limit."""

OBSERVATION = HEALTH | {"/metrics"}
"""Answered at any time: while the model loads and while the service shuts down."""

DOCUMENTS = frozenset({"/docs", "/openapi.json", "/"})
"""Need no model."""

STATIC_PREFIX = "/static/"
"""Below it are the files that these are made of."""

DISCOVERY = frozenset({"/$discovery/rest", "/discovery/v1/apis/commentanalyzer/v1alpha1/rest"})
"""What Google's client libraries read before they ask; needs no key, as there."""

KEY_IN_QUERY = GOOGLE_PREFIX
"""Below this path the key may be in the query string, as clients of Google's APIs send it."""


def is_document(path: str) -> bool:
    """Whether a path is one of the pages for people, or a part of them."""
    return path in DOCUMENTS or path.startswith(STATIC_PREFIX)
