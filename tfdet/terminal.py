"""The one way to a terminal: every name that is printed goes through here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import rich.console
from rich.cells import cell_len
from rich.segment import Segment
from rich.text import Text

from tfdet.text import printable


class Console(rich.console.Console):
    """A console on which text is text.

    Square brackets are no markup and `:smile:` is no emoji, for both stand in names of files and classes. What would
    steer the terminal is escaped, see `text.printable`, and so is what its encoding lacks. `style` gives colours.

    Args:
        options: of `rich.console.Console`.
    """

    def __init__(self, **options: Any):
        super().__init__(**{"markup": False, "emoji": False, **options})

    def say(self, text: str, style: str = "") -> None:
        """Prints a sentence in lines that fit, see `folded`; on what is no terminal in lines of 80 columns."""
        for line in folded(text, self.width):
            self.print(shown(line, style), soft_wrap=True)

    def render_str(self, text: str, **options: Any) -> Text:
        """A string as rich lays it out; escaped here, so that columns are as wide as what is shown in them."""
        return super().render_str(self._shown(text), **options)

    def render(self, renderable: Any, options: rich.console.ConsoleOptions | None = None) -> Iterable[Segment]:
        """The pieces of anything that is printed; the last place where they can be escaped."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else self._shown(segment.text)
            yield segment if text == segment.text else Segment(text, segment.style)

    def _shown(self, text: str) -> str:
        if text.isascii() and text.isprintable():
            return text
        return printable(text).encode(self.encoding, "backslashreplace").decode(self.encoding)


def shown(text: object, style: str = "") -> Text:
    """A text from outside as a line or a cell, for consoles of others too: no markup, no emoji, nothing that steers."""
    return Text(printable(str(text)), style=style)


def folded(text: str, width: int, indent: str = "  ") -> list[str]:
    """A text as lines of at most `width` columns, broken between words.

    A word that is longer, such as a path, stays whole on a line of its own: it can be copied.

    Args:
        text: one or more lines.
        width: columns of a terminal; wide characters take two.
        indent: before every line but the first of each.
    """
    lines: list[str] = []
    for line in text.split("\n"):
        folding, begin = "", len(lines)
        for word in line.split(" "):
            longer = f"{folding} {word}" if folding.strip() else folding + word
            if folding.strip() and cell_len(longer) > width:
                lines.append(folding)
                longer = indent + word
            folding = longer
        if folding or begin == len(lines):
            lines.append(folding)
    return lines
