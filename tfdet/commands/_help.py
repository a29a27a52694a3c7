"""Help that is as wide as the terminal, whatever the width of the docstrings that it is made of."""

from __future__ import annotations

import argparse
import re
import textwrap

_PARTS = re.compile(r"(?<=\S) {2,}")  # a name and what it is, a command and its comment: two blanks between them


class HelpFormatter(argparse.HelpFormatter):
    """Sets paragraphs anew; indented lines stay lines, and what is too wide hangs below the second of its two parts."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = []
        for paragraph in text.strip("\n").split("\n\n"):
            lines = paragraph.split("\n")
            if not any(line.startswith(" ") for line in lines):
                lines = [" ".join(lines)]
            paragraphs.append("\n".join(indent + part for line in lines for part in filled(line, width - len(indent))))
        return "\n\n".join(paragraphs)


def filled(line: str, width: int) -> list[str]:
    """A line as lines of at most `width` characters; words are not broken, and a comment moves above its command."""
    if len(line) <= width:
        return [line]
    blanks = " " * (len(line) - len(line.lstrip()))
    command, mark, comment = line.partition("  # ")
    if mark:
        return [*filled(f"{blanks}# {comment.strip()}", width), *filled(command.rstrip(), width)]
    part = _PARTS.search(line)
    hanging = part.end() if part and part.end() <= width // 2 else len(blanks)
    return textwrap.wrap(line, width, subsequent_indent=" " * hanging, break_long_words=False, break_on_hyphens=False)
