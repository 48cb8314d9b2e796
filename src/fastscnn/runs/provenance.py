"""What a run was made of, for a reader a year later: the code that no commit has, and every installed package."""

import functools
import hashlib
import subprocess
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from fastscnn.utils.files import write_bytes
from fastscnn.utils.text import plural

CODE, PACKAGES = "code.diff", "packages.txt"
MOST_BYTES = 1_000_000
"""Of the uncommitted code that a run's folder takes; what no longer fits is named."""
SECONDS = 20


def write_provenance(folder: Path, before: Mapping[str, Any]) -> dict[str, Any]:
    """Write the uncommitted code and the packages to a run's folder; returns the keys that its record gets.

    Args:
        folder: The run's folder.
        before: The record so far. What a resumed run has already is not written again, and never overwritten.
    """
    number = len(before.get("resumed") or ())
    found: dict[str, Any] = {}
    diff = uncommitted()
    if diff is not None:
        text, files, left_out = diff
        found["code"] = _written(folder, CODE, text, number, before.get("code"))
        found["code"] |= {"files": files, "left_out": left_out}
    names = packages()
    lines = "".join(f"{name}=={version}\n" for name, version in names.items()).encode()
    found["packages"] = _written(folder, PACKAGES, lines, number, before.get("packages")) | {"count": len(names)}
    return found


def _written(folder: Path, name: str, content: bytes, number: int, before: Mapping[str, Any] | None) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    if before and before.get("sha256") == digest:
        return {"file": before.get("file"), "sha256": digest}
    stem, _, suffix = name.partition(".")
    file = f"{stem}.{number}.{suffix}" if number else name
    if content:
        write_bytes(folder / file, content)
    return {"file": file if content else None, "sha256": digest}


@functools.cache
def packages() -> dict[str, str]:
    """Every installed distribution and its version, by name."""
    found = {str(one.metadata["Name"]): one.version for one in metadata.distributions() if one.metadata["Name"]}
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


def uncommitted() -> tuple[bytes, list[str], list[str]] | None:
    """The uncommitted diff of this project, new files included; None where it is installed or git does not answer.

    Returns:
        The diff, at most `MOST_BYTES`; the files in it; and those that do not fit.
    """
    here = Path(__file__).parent
    try:
        _git(here, "ls-files", "--error-unmatch", __file__)  # an installed package may lie in a user's repository
        root = Path(_git(here, "rev-parse", "--show-toplevel").decode().strip())
        parts = list(_parts(root))
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    taken, names, left_out, size = [], [], [], 0
    for name, part in parts:
        if size + len(part) > MOST_BYTES:
            left_out.append(name)
            continue
        taken.append(part)
        names.append(name)
        size += len(part)
    return b"".join(taken), names, left_out


def _parts(root: Path) -> Iterator[tuple[str, bytes]]:
    """Each changed or new file with its diff; of a binary file the diff says that it differs."""
    for name in _names(root, "diff", "--name-only", "-z", "HEAD"):
        yield name, _git(root, "diff", "HEAD", "--", name)
    for name in _names(root, "ls-files", "--others", "--exclude-standard", "-z"):
        if (root / name).is_file():
            yield name, _git(root, "diff", "--no-index", "--", "/dev/null", name, codes=(0, 1))


def _names(root: Path, *arguments: str) -> list[str]:
    return [name.decode(errors="surrogateescape") for name in _git(root, *arguments).split(b"\0") if name]


def _git(folder: Path, *arguments: str, codes: tuple[int, ...] = (0,)) -> bytes:
    done = subprocess.run(
        ["git", "-c", "core.quotepath=off", *arguments], cwd=folder, capture_output=True, timeout=SECONDS, check=False
    )
    if done.returncode not in codes:
        raise subprocess.CalledProcessError(done.returncode, arguments)
    return done.stdout


def read_packages(folder: Path, record: Mapping[str, Any]) -> dict[str, str]:
    """The packages that a run's folder lists, name to version; those in its record where it has no list."""
    file = (record.get("packages") or {}).get("file")
    try:
        lines = (folder / str(file)).read_text(encoding="utf-8").splitlines() if file else []
    except OSError:
        lines = []
    listed = dict(line.split("==", 1) for line in lines if "==" in line)
    return listed or {str(name): str(version) for name, version in (record.get("versions") or {}).items()}


def code_of(record: Mapping[str, Any]) -> dict[str, str]:
    """The commit and the digest of what was not committed, as text."""
    git, code = record.get("git") or {}, record.get("code") or {}
    changed = code.get("files") or []
    return {
        "commit": str(git.get("commit")),
        "uncommitted": f"{plural(len(changed), 'file')}, {str(code.get('sha256'))[:8]}",
    }


def data_of(record: Mapping[str, Any]) -> dict[str, str]:
    """The name and the fingerprint of the data, as text."""
    data = record.get("dataset") or {}
    return {"data": str(data.get("name")), "fingerprint": str(data.get("fingerprint"))}


def machine_of(record: Mapping[str, Any]) -> dict[str, str]:
    """The host and the device, as text."""
    return {"host": str(record.get("host")), "device": str(record.get("device"))}


def differing(before: Mapping[str, str], now: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Key to the two values, where they differ; `-` for none."""
    names = dict.fromkeys([*before, *now])
    return {name: (a, b) for name in names if (a := before.get(name, "-")) != (b := now.get(name, "-"))}
