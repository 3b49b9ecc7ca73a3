"""Files and folders that a URI names: ``s3://``, ``gs://``, ``hf://``, and what else fsspec knows.

:class:`RemotePath` has the part of :class:`pathlib.Path` that readers and writers use. Object
stores have no folders, no renaming and no locks; what takes their place is in
:mod:`splinellm.io.unfinished` and :mod:`splinellm.io.leases`. Whatever a store's own library
raises is an OSError here, as it is for files.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, cast
from urllib.parse import unquote, urlsplit

from splinellm.errors import ConfigurationError, SplineLLMError

_URI = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_LOCAL = ("file", "local")
_BLOCK_BYTES = 8 << 20
"""So much is fetched at a time: enough that the way there and back does not count."""
_PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}
"""What reads and writes them, by scheme; that of S3 is in the extra ``remote``."""
_USUAL = ("file", "s3", "gs", "az", "abfs", "hf", "http", "https", "ftp", "sftp", "hdfs", "memory")
_VERSIONS = (
    "ETag",
    "etag",
    "generation",
    "blob_id",
    "mtime",
    "LastModified",
    "modified",
    "created",
)
"""Of what stores say of a file, what changes with its content; the surest first."""

Location: TypeAlias = "Path | RemotePath"


def is_uri(text: str) -> bool:
    """Whether a text names something elsewhere; ``file://`` is here."""
    found = _URI.match(text)
    return found is not None and found[1].lower() not in _LOCAL


def location(text: str) -> Location:
    """What a path or URI names.

    Raises
    ------
    ConfigurationError
        The scheme is unknown, or its package is not installed.
    """
    if not is_uri(text):
        return Path(plain_path(text))
    scheme, mark, place = text.partition("://")
    return RemotePath(scheme + mark + place.rstrip("/"))


def plain_path(text: str) -> str:
    """A ``file://`` URI as a path; anything else as it is.

    Raises
    ------
    ConfigurationError
        It names another machine.
    """
    found = _URI.match(text)
    if found is None or found[1].lower() not in _LOCAL:
        return text
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost"):
        raise ConfigurationError(f"'{text[:80]}' is on another machine", hint="file:///FOLDER/FILE")
    return unquote(text[found.end() + len(parts.netloc) :])


def size_of(path: Location) -> int:
    """Bytes of a file."""
    return path.size() if isinstance(path, RemotePath) else path.stat().st_size


def stamp_of(path: Location) -> str:
    """What tells this version of a file from others: its size and when it was changed."""
    if isinstance(path, RemotePath):
        return path.stamp()
    found = path.stat()
    return f"{found.st_size} bytes, {found.st_mtime_ns}"


@dataclass(frozen=True)
class RemotePath:
    """A file or folder elsewhere.

    Parameters
    ----------
    uri : str
        Without a slash at its end.
    listed_size : int, optional
        Bytes of a file, if a listing told.
    """

    uri: str
    listed_size: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        _ = self._place  # a missing package is to be told of at once

    def __str__(self) -> str:
        return self.uri

    @property
    def _place(self) -> tuple[Any, str]:
        """The file system, and the name that it has for this."""
        return _opened_place(self.uri)

    @property
    def scheme(self) -> str:
        """What stands before ``://``."""
        return self.uri.partition("://")[0].lower()

    @property
    def name(self) -> str:
        """Last part of the name."""
        return self.uri.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        """Suffix of the name."""
        return Path(self.name).suffix

    @property
    def stem(self) -> str:
        """Name without its suffix."""
        return Path(self.name).stem

    @property
    def parent(self) -> RemotePath:
        """Folder that it is in."""
        scheme, mark, place = self.uri.partition("://")
        return RemotePath(scheme + mark + place.rpartition("/")[0])

    def __truediv__(self, name: str) -> RemotePath:
        return RemotePath(f"{self.uri}{'' if self.uri.endswith('/') else '/'}{name}")

    def with_name(self, name: str) -> RemotePath:
        """Another file of the same folder."""
        return self.parent / name

    def is_relative_to(self, other: RemotePath) -> bool:
        """Whether it lies in another, or is it."""
        return f"{self.uri}/".startswith(f"{other.uri}/")

    def parts_below(self, root: RemotePath) -> tuple[str, ...]:
        """Names of the folders between, and its own."""
        return tuple(self.uri[len(root.uri) + 1 :].split("/"))

    def _info(self) -> dict[str, Any] | None:
        system, key = self._place
        with told(), suppress(FileNotFoundError, NotADirectoryError):
            found: dict[str, Any] = system.info(key)
            return found
        return None

    def exists(self) -> bool:
        """Whether anything is there."""
        return self._info() is not None

    def is_file(self) -> bool:
        """Whether a file is there."""
        return (self._info() or {}).get("type") == "file"

    def is_dir(self) -> bool:
        """Whether something lies below."""
        return (self._info() or {}).get("type") == "directory"

    def size(self) -> int:
        """Bytes of a file."""
        if self.listed_size is not None:
            return self.listed_size
        found = self._info()
        if found is None:
            raise FileNotFoundError(self.uri)
        return int(found.get("size") or 0)

    def stamp(self) -> str:
        """What the store says that tells this version of a file from others.

        Raises
        ------
        OSError
            There is no such file, or nothing is said.
        """
        found = self._info()
        if found is None:
            raise FileNotFoundError(self.uri)
        # A listing says more than a question for one object does, so not all that is there.
        version = next((found[name] for name in _VERSIONS if found.get(name)), None)
        if version is None:
            raise OSError(f"nothing tells the version of {self.uri}")
        return f"{found.get('size')} bytes, {version}"

    def open(self, mode: str = "rb") -> BinaryIO:
        """Open for reading, from anywhere in it."""
        if mode != "rb":
            raise io.UnsupportedOperation(mode)
        system, key = self._place
        with told():
            raw = system.open(key, "rb", block_size=_BLOCK_BYTES)
        return cast("BinaryIO", io.BufferedReader(_Reader(raw), 1 << 16))

    def read_bytes(self) -> bytes:
        """Whole content."""
        system, key = self._place
        with told():
            content: bytes = system.cat_file(key)
        return content

    def write_bytes(self, content: bytes) -> int:
        """Put content in place, all at once."""
        system, key = self._place
        with told():
            system.pipe_file(key, bytes(content))
        return len(content)

    def create(self) -> Any:
        """Start writing an object that is there only once it is committed; fsspec's file."""
        system, key = self._place
        with told():
            _forget_uploads(system, key)
            return system.open(key, "wb", autocommit=False, block_size=4 * _BLOCK_BYTES)

    def upload(self, file: Path) -> None:
        """Put the content of a file in place, all at once."""
        system, key = self._place
        with told():
            system.put_file(str(file), key)

    def unlink(self, *, missing_ok: bool = False) -> None:
        """Remove a file."""
        system, key = self._place
        try:
            with told():
                system.rm_file(key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: a folder is there when something is in it."""

    def rmdir(self) -> None:
        """Do nothing: a folder is gone when nothing is in it."""

    def iterdir(self) -> Iterator[RemotePath]:
        """What lies directly below; nothing if the folder is not there."""
        system, key = self._place
        with told(), suppress(FileNotFoundError):
            system.invalidate_cache()
            for found in system.ls(key, detail=True):
                if found["name"].strip("/") != key.strip("/"):  # a marker of the folder itself
                    yield self._sibling(found)

    def glob(self, pattern: str) -> Iterator[RemotePath]:
        """What lies directly below and has such a name."""
        return (path for path in self.iterdir() if fnmatchcase(path.name, pattern))

    def walk(self) -> list[RemotePath]:
        """All files below."""
        system, key = self._place
        with told():
            system.invalidate_cache()
            found = system.find(key, detail=True)
        return [self._sibling(each) for each in found.values() if each["type"] == "file"]

    def matches(self) -> list[tuple[RemotePath, bool]]:
        """What this, read as a pattern, matches; and whether it is a folder."""
        system, key = self._place
        with told():
            system.invalidate_cache()
            found = system.glob(key, detail=True)
        return [(self._sibling(each), each["type"] == "directory") for each in found.values()]

    def _sibling(self, found: dict[str, Any]) -> RemotePath:
        name = str(found["name"]).rstrip("/")
        if "://" not in name:
            name = f"{self.uri.partition('://')[0]}://{name.lstrip('/')}"
        size = found.get("size")
        path = RemotePath(name)
        return path if size is None else replace(path, listed_size=int(size))


def _forget_uploads(system: Any, key: str) -> None:
    """Throw away what runs that were killed have sent of an object: S3 keeps it, and it costs."""
    if not hasattr(system, "list_multipart_uploads"):
        return
    bucket, _, name = key.partition("/")
    with suppress(Exception):  # not everybody may
        for upload in system.list_multipart_uploads(bucket):
            if upload["Key"] == name:
                system.abort_mpu(bucket, name, upload["UploadId"])


def _opened_place(uri: str) -> tuple[Any, str]:
    scheme = uri.partition("://")[0].lower()
    package = _PACKAGES.get(scheme)
    try:
        import fsspec.core

        system, key = fsspec.core.url_to_fs(uri)
    except ImportError as error:
        hint = f"pip install {package}"
        if package == "s3fs":
            hint = "pip install 'splinellm[remote]'"
        elif package is None:
            hint = f"install the package that fsspec wants: {error}"
        raise ConfigurationError(
            f"{scheme}:// needs {package or 'a package'}, which is not installed", hint=hint
        ) from error
    except ValueError as error:
        known = fsspec.available_protocols()
        usual = ", ".join(one for one in _USUAL if one in known)
        hint = f"known are {usual}, and what else fsspec has a package for"
        raise ConfigurationError(
            f"'{uri[:80]}' cannot be read: {error}", hint=None if scheme in known else hint
        ) from error
    return system, str(key)


@contextmanager
def told() -> Iterator[None]:
    """Turn what libraries raise into an OSError, which every reader and writer tells of."""
    try:
        yield
    except (OSError, SplineLLMError):
        raise
    except Exception as error:
        raise OSError(f"{type(error).__name__}: {error}") from error


class _Reader(io.RawIOBase):
    """fsspec's file, whose failures are OSErrors."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def tell(self) -> int:
        return int(self._file.tell())

    def seek(self, offset: int, whence: int = 0) -> int:
        with told():
            return int(self._file.seek(offset, whence))

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        with told():
            block = self._file.read(len(buffer))
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()
