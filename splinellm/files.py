"""Where files are kept between runs, and whether anything may be fetched."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from platformdirs import user_cache_path

_TRUE = {"1", "true", "yes", "on"}


def cache_dir() -> Path:
    """Folder for fetched models: ``SPLINELLM_CACHE``, else the platform's cache folder."""
    configured = os.environ.get("SPLINELLM_CACHE")
    return Path(configured).expanduser() if configured else user_cache_path("splinellm")


def is_offline() -> bool:
    """Whether ``SPLINELLM_OFFLINE`` or ``HF_HUB_OFFLINE`` forbids downloads."""
    names = ("SPLINELLM_OFFLINE", "HF_HUB_OFFLINE")
    return any(os.environ.get(name, "").lower() in _TRUE for name in names)


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
