"""Texts as JSON lines: three, and three of which one cannot be read."""

from __future__ import annotations

ROWS = b'{"id": 1, "text": "one"}\n{"id": 2, "text": "two"}\n{"id": 3, "text": "three"}\n'
ONE_BAD = b'{"text": "one"}\n{"text": ""}\n{"text": "three"}\n'
