"""Which code a process runs: workers of one run have to agree on it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import re
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
_VERSION = re.compile(r'^__version__ = "(.+)"', re.MULTILINE)
_PACKAGES = ("tensorflow", "keras", "numpy")


def code_facts() -> dict[str, str]:
    """Versions by name, and a fingerprint of tfdet's own sources: two checkouts may have one version."""
    facts = {"tfdet": f"{_version()} ({sources_fingerprint()[:12]})", "Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # built under another name, such as tensorflow-cpu
            facts[package] = "of another name"
    return facts


def sources_fingerprint() -> str:
    """SHA-256 in hex of the package's Python files, by name and content."""
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(_PACKAGE)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()


def _version() -> str:
    # Read, for to import it would be a circle.
    match = _VERSION.search((_PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    return match[1] if match else "of no version"
