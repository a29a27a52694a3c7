"""What the documentation's site has beside docs/: README as its first page, every command's help, and the files of the
source tree that pages link to, so that no link leaves the site. MkDocs calls it (mkdocs.yml: hooks).
"""

from __future__ import annotations

import argparse
import importlib
import posixpath
import re
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from tfdet.commands import command_names
from tfdet.commands._help import HelpFormatter

ROOT = Path(__file__).resolve().parent.parent
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "reference/contributing.md",
    "CHANGELOG.md": "reference/changelog.md",
}
"""Files of the source tree that are pages of the site."""

HELP = "reference/help.md"
_SOURCE = "source"  # folder of the site for files that pages link to
_LINK = re.compile(r"(\]\()([^)\s]+)(\))")
_CODE = re.compile(r"^(```.*?^```|(?: {4,}|\t)[^\n]*$)", re.MULTILINE | re.DOTALL)
_LANGUAGES = {".py": "python", ".gin": "python", ".sh": "bash", ".txt": "text", ".json": "json", ".jsonl": "json"}


def on_files(files: Files, config) -> Files:
    """Adds the pages that are generated."""
    names = sorted(str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").glob("*.md"))
    unlisted = [name for name in names if f": {name}" not in (ROOT / "mkdocs.yml").read_text(encoding="utf-8")]
    if unlisted:
        raise PluginError(f"mkdocs.yml: nav does not name {', '.join(unlisted)}")
    linked = {target for name in names for target in _outside(f"docs/{name}")}
    for origin, uri in PAGES.items():
        files.append(File.generated(config, uri, content=_read(origin)))
        linked |= set(_outside(origin))
    for path in sorted(linked):
        files.append(File.generated(config, _uri(path), content=_as_page(path)))
    files.append(File.generated(config, HELP, content=command_help()))
    return files


def on_page_markdown(markdown: str, page, config, files: Files) -> str:
    """Turns links as they are in the source tree into those of the site."""
    origin = {uri: origin for origin, uri in PAGES.items()}.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    if page.file.src_uri.startswith((f"{_SOURCE}/", HELP)):
        return markdown
    return relinked(markdown, origin)


def relinked(markdown: str, origin: str) -> str:
    """A page of the source tree with the links that it has on the site.

    Args:
        markdown: the page.
        origin: its path in the source tree.
    """
    here = posixpath.dirname(_uri(origin))

    def one(match: re.Match) -> str:
        target, anchor = _target(match[2], origin)
        if target is None:
            return match[0]
        return f"{match[1]}{posixpath.relpath(_uri(target), here or '.')}{anchor}{match[3]}"

    parts = _CODE.split(markdown)  # code at odd places
    return "".join(part if number % 2 else _LINK.sub(one, part) for number, part in enumerate(parts))


def command_help() -> str:
    """The page with what `tfdet COMMAND --help` prints."""
    parts = ["# Every command's help", "", "What `tfdet COMMAND --help` prints.", ""]
    for name in command_names():
        module = importlib.import_module(f"tfdet.commands.{name}")
        parser = argparse.ArgumentParser(
            prog=f"tfdet {name}",
            description=module.__doc__,
            formatter_class=lambda prog: HelpFormatter(prog, width=80),
            allow_abbrev=False,
        )
        module.add_arguments(parser)
        parts += [f"## tfdet {name}", "", "```text", parser.format_help().rstrip(), "```", ""]
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                for which, sub in action.choices.items():
                    sub.formatter_class = parser.formatter_class
                    parts += [f"### tfdet {name} {which}", "", "```text", sub.format_help().rstrip(), "```", ""]
    return "\n".join(parts)


def _target(link: str, origin: str) -> tuple[str | None, str]:
    """The path in the source tree that a link of a page means, None for links elsewhere, and its anchor."""
    path, sharp, anchor = link.partition("#")
    if not path or re.match(r"[a-z]+:", path):
        return None, ""
    return posixpath.normpath(posixpath.join(posixpath.dirname(origin), path)), sharp + anchor


def _outside(origin: str) -> list[str]:
    """Paths of the files beside docs/ that a page links to."""
    text = "".join(_CODE.split(_read(origin))[::2])
    targets = [_target(match[2], origin)[0] for match in _LINK.finditer(text)]
    found = [target for target in targets if target and not target.startswith("docs/") and target not in PAGES]
    for target in found:
        if not (ROOT / target).is_file():
            raise PluginError(f"{origin}: links to {target}, which is no file")
    return found


def _uri(path: str) -> str:
    """Where a file of the source tree is on the site."""
    if path in PAGES:
        return PAGES[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"{_SOURCE}/{path}.md"


def _as_page(path: str) -> str:
    language = _LANGUAGES.get(posixpath.splitext(path)[1], "text")
    return f"# {path}\n\n````{language}\n{_read(path).rstrip()}\n````\n"


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")
