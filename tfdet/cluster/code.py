"""Which code a process runs: workers of one run have to agree on it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
from pathlib import Path

from tfdet import __version__

_PACKAGES = ("tensorflow", "keras", "numpy")


def code_facts() -> dict[str, str]:
    """Versions by name, and a fingerprint of tfdet's own sources: two checkouts may have one version."""
    facts = {"tfdet": f"{__version__} ({sources_fingerprint()[:12]})", "Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            facts[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:  # built under another name, such as tensorflow-cpu
            facts[package] = "of another name"
    return facts


def sources_fingerprint() -> str:
    """SHA-256 in hex of the package's Python files, by name and content."""
    package = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(package)} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()
