"""Middleware in plain ASGI, one concern a file."""
