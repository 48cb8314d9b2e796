"""Digests of files, which name their content wherever they lie."""

import functools
import hashlib
from pathlib import Path


def digest_of(file: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    about = file.stat()
    return _digest(str(file.resolve()), about.st_size, about.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _digest(file: str, size: int, changed: int) -> str:
    with open(file, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
