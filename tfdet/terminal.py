"""The one way to a terminal: every name that is printed goes through here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import rich.console
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
