"""Where cached feature rows are kept: memory or disk. A store knows keys and rows, no models."""

from __future__ import annotations

import logging
import sqlite3
import zlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from contextlib import closing
from itertools import islice
from os import PathLike, fspath
from pathlib import Path
from threading import Lock
from typing import Protocol, TypeVar

import numpy as np
from filelock import FileLock

from splinellm.errors import ConfigurationError
from splinellm.files import cache_dir

Rows = dict[bytes, np.ndarray]
"""Feature rows, float32, by key."""

_Result = TypeVar("_Result")
_logger = logging.getLogger(__name__)

_ROW_OVERHEAD_BYTES = 250  # key, array header and dictionary entry
_APPLICATION_ID = 0x53504C4E  # "SPLN", in the file's header: the file is ours
_LAYOUT = 1  # raised when the table below changes
_KEYS_PER_QUERY = 500  # SQLite before 3.32 takes 999 parameters
_BUSY_TIMEOUT_S = 30.0

_CREATE = f"""
BEGIN;
DROP TABLE IF EXISTS features;
CREATE TABLE features (key BLOB NOT NULL UNIQUE, row BLOB NOT NULL, crc32 INTEGER NOT NULL);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_LAYOUT};
COMMIT;
"""


class Store(Protocol):
    """What :class:`splinellm.extraction.caching.CachedExtractor` needs of a cache."""

    def get(self, keys: Collection[bytes]) -> Rows:
        """Rows of those keys that are there."""

    def put(self, rows: Mapping[bytes, np.ndarray]) -> None:
        """Keep rows; older ones may make way."""


class MemoryStore:
    """Rows in memory, the least recently used leaving first. Threads may share it.

    Parameters
    ----------
    max_bytes : int
        Bound of its size, approximately.
    """

    def __init__(self, max_bytes: int = 256 << 20) -> None:
        self.max_bytes = max_bytes
        self._rows: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._n_bytes = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, keys: Collection[bytes]) -> Rows:
        """See :class:`Store`."""
        with self._lock:
            found = {key: self._rows[key] for key in keys if key in self._rows}
            for key in found:
                self._rows.move_to_end(key)
        return found

    def put(self, rows: Mapping[bytes, np.ndarray]) -> None:
        """See :class:`Store`."""
        with self._lock:
            for key, row in rows.items():
                if (old := self._rows.pop(key, None)) is not None:
                    self._n_bytes -= old.nbytes + _ROW_OVERHEAD_BYTES
                self._rows[key] = row.copy()  # a view would keep the whole table alive
                self._n_bytes += row.nbytes + _ROW_OVERHEAD_BYTES
            while self._n_bytes > self.max_bytes:
                _, old = self._rows.popitem(last=False)
                self._n_bytes -= old.nbytes + _ROW_OVERHEAD_BYTES

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._rows.clear()
            self._n_bytes = 0


class DiskStore:
    """Rows in one SQLite file, for any number of threads and processes.

    Keys are hashes: the file holds no text. A damaged file is put aside (as ``*.corrupt``) and
    begun anew. Once open, the cache never fails an extraction: what it cannot read is a miss, what
    it cannot write is logged.

    Parameters
    ----------
    path : path-like, optional
        ``features/features.sqlite`` in the cache folder (``SPLINELLM_CACHE``) by default.
    max_bytes : int
        Bound of the file's size, approximately; the rows written first leave first.

    Raises
    ------
    ConfigurationError
        The file cannot be opened or made, or belongs to another program.
    """

    def __init__(
        self, path: str | PathLike[str] | None = None, *, max_bytes: int = 4 << 30
    ) -> None:
        default = cache_dir() / "features" / "features.sqlite"
        self.path = default if path is None else Path(fspath(path))
        self.max_bytes = max_bytes
        self._prepare()

    def __len__(self) -> int:
        return self._run(
            lambda connection: int(
                connection.execute("SELECT count(*) FROM features").fetchone()[0]
            ),
            otherwise=0,
        )

    def get(self, keys: Collection[bytes]) -> Rows:
        """See :class:`Store`."""
        return self._run(lambda connection: _select(connection, keys), otherwise={})

    def put(self, rows: Mapping[bytes, np.ndarray]) -> None:
        """See :class:`Store`."""
        if rows:
            self._run(lambda connection: self._insert(connection, rows), otherwise=None)

    def clear(self) -> None:
        """Forget everything."""
        self._run(lambda connection: connection.execute("DELETE FROM features"), otherwise=None)

    def _insert(self, connection: sqlite3.Connection, rows: Mapping[bytes, np.ndarray]) -> None:
        blobs = ((key, row.astype("<f4").tobytes()) for key, row in rows.items())
        # A rollback follows if anything raises: the connection is closed without a commit.
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany(
            "INSERT OR REPLACE INTO features VALUES (?, ?, ?)",
            ((key, blob, zlib.crc32(key + blob)) for key, blob in blobs),
        )
        pages, free, page_bytes = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        if (pages - free) * page_bytes > self.max_bytes:
            connection.execute(  # the oldest tenth; its pages are used again
                "DELETE FROM features WHERE rowid <= "
                "(SELECT min(rowid) + (max(rowid) - min(rowid)) / 10 FROM features)"
            )
        connection.execute("COMMIT")

    def _run(self, work: Callable[[sqlite3.Connection], _Result], *, otherwise: _Result) -> _Result:
        """Do `work`, if need be once more on a mended file."""
        try:
            try:
                with closing(self._connect()) as connection:
                    return work(connection)
            except sqlite3.Error as error:
                self._prepare(check=_is_damage(error))
            with closing(self._connect()) as connection:
                return work(connection)
        except (sqlite3.Error, ConfigurationError) as error:
            _logger.warning("the feature cache %s is of no use: %s", self.path, error)
            return otherwise

    def _connect(self) -> sqlite3.Connection:
        # One for each operation, which moves many rows: none is carried into a thread or a fork.
        connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = NORMAL")  # a lost row is only computed again
        except sqlite3.Error:  # of a damaged file, which is put aside: nobody else closes it
            connection.close()
            raise
        return connection

    def _prepare(self, *, check: bool = False) -> None:
        """Make the file if it is not there, and anew if it is damaged."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock", timeout=2 * _BUSY_TIMEOUT_S):
                try:
                    self._open_or_create(check=check)
                except sqlite3.Error as error:
                    if not _is_damage(error):
                        raise
                    _logger.warning("the feature cache %s was damaged; begun anew", self.path)
                    self.path.replace(f"{self.path}.corrupt")
                    for suffix in ("-wal", "-shm"):
                        Path(f"{self.path}{suffix}").unlink(missing_ok=True)
                    self._open_or_create(check=False)
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(
                f"the feature cache '{self.path}' cannot be opened: {error}",
                hint="set SPLINELLM_CACHE to a folder that can be written, or use cache='memory'",
            ) from error

    def _open_or_create(self, *, check: bool) -> None:
        with closing(self._connect()) as connection:
            owner, layout, n_tables = (
                connection.execute(query).fetchone()[0]
                for query in (
                    "PRAGMA application_id",
                    "PRAGMA user_version",
                    "SELECT count(*) FROM sqlite_master",
                )
            )
            if owner != _APPLICATION_ID and (owner or n_tables):
                raise ConfigurationError(
                    f"'{self.path}' is a database, but not a feature cache", hint="name another"
                )
            # By now, another process may have mended what this one stumbled on.
            if check and connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise _DamagedError
            if (owner, layout) != (_APPLICATION_ID, _LAYOUT):
                connection.execute("PRAGMA journal_mode = WAL")  # readers do not wait for a writer
                connection.executescript(_CREATE)


class _DamagedError(sqlite3.DatabaseError):
    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def _is_damage(error: sqlite3.Error) -> bool:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the rest says where
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _select(connection: sqlite3.Connection, keys: Collection[bytes]) -> Rows:
    found: Rows = {}
    remaining = iter(keys)
    while part := list(islice(remaining, _KEYS_PER_QUERY)):
        marks = ",".join("?" * len(part))
        query = f"SELECT key, row, crc32 FROM features WHERE key IN ({marks})"  # noqa: S608
        for key, blob, checksum in connection.execute(query, part):
            if zlib.crc32(key + blob) == checksum:
                found[key] = np.frombuffer(blob, "<f4")
    return found
