"""The event log: one JSON object a line on standard error. No text of any request, ever.

Events of the service are a name and fields. Exceptions are logged as the names of their types and
the places in the code that they passed, since their messages may quote a prompt; records of other
libraries only say where they come from, for the same reason.
"""

from __future__ import annotations

import logging
import sys
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import orjson

_logger = logging.getLogger("service")
_OURS = ("service", "splinellm", "uvicorn")
"""Loggers whose messages are known to hold no text of a request."""
_MAX_FRAMES = 12


def configure_logging(level: str) -> None:
    """Send the records of all loggers to standard error as JSON lines.

    Uvicorn's access log is switched off: it writes query strings, and in the Perspective API the
    key is in the query string.
    """
    handler = _StandardError()
    handler.setFormatter(EventFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):  # transformers and uvicorn bring handlers
            logger.handlers.clear()
            logger.propagate = True
    logging.getLogger("uvicorn.access").propagate = False
    # What uvicorn tells of starting and stopping, the service's own events say, too.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    for name in ("service", "splinellm"):
        logging.getLogger(name).setLevel(level.upper())


def log_event(name: str, level: int = logging.INFO, **fields: Any) -> None:
    """Log an event of the service.

    Parameters
    ----------
    name : str
        Of the event.
    level : int
        As in :mod:`logging`.
    **fields
        Values that JSON can hold; None is left out.
    """
    _logger.log(level, name, extra={"fields": fields})


def log_exception(name: str, error: BaseException, **fields: Any) -> None:
    """Log an exception that nobody expected, without its message."""
    log_event(name, logging.ERROR, **fields, **_describe(error))


class EventFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Format `record`."""
        is_ours = record.name.split(".", 1)[0] in _OURS
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage() if is_ours else "foreign",
            **({} if record.name == _logger.name else {"logger": record.name}),
            **({} if is_ours else {"where": f"{record.pathname}:{record.lineno}"}),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line |= _describe(record.exc_info[1])
        kept = {key: value for key, value in line.items() if value is not None}
        return orjson.dumps(kept, default=lambda value: type(value).__name__).decode()


class _StandardError(logging.Handler):
    """Writes to whatever standard error is now: tests and supervisors replace it."""

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError, ValueError):  # a closed pipe must not fail a request
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()


def _describe(error: BaseException) -> dict[str, Any]:
    frames = traceback.extract_tb(error.__traceback__)[-_MAX_FRAMES:]
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return {
        "exception": type(error).__name__,
        "frames": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
        "cause": None if cause is None else _describe(cause),
    }
