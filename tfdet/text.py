"""Text from outside: names and files in whatever encoding they are, and what of them may reach a terminal."""

from __future__ import annotations

import codecs
import os
import re
from pathlib import Path

from tfdet.errors import UserError
from tfdet.files import read_regular

# Control characters but tab and line feed; separators of lines; characters that turn or hide what stands beside them
# (Unicode's format characters, but the joiners that scripts and emoji need); halves of pairs; what is no character.
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ufffe\uffff\U000e0001-\U000e007f\ud800-\udfff]"
)
# UTF-32 before UTF-16, whose mark its own begins with.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def printable(text: str) -> str:
    """A text as a terminal may get it: what would move its cursor, set its colours or turn a line around is escaped.

    Args:
        text: any text; bytes of a file's name that are no UTF-8 are in it as `os.fsdecode` puts them.

    Returns:
        The text with `\\x1b`, `\\u202e` and the like in place of such characters; tabs and line feeds stay.
    """
    return _UNPRINTABLE.sub(_escaped, text)


def one_line(text: str) -> str:
    """`printable`, with line feeds escaped too: for lists of names, in which each has its line."""
    return printable(text).replace("\n", "\\n")


def _escaped(match: re.Match) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def name_bytes(name: str) -> bytes:
    """A name as bytes, for a record: the bytes that a file's name has, UTF-8 or not."""
    try:
        return name.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # half a pair, which json can hold and no file's name
        return name.encode("utf-8", "backslashreplace")


def name_of(content: bytes) -> str:
    """What `name_bytes` was given; bytes that are no UTF-8 become what `os.fsdecode` makes of them."""
    return content.decode("utf-8", "surrogateescape")


def decode(content: bytes, encoding: str = "utf-8", errors: str = "strict") -> str:
    """The text of a file, without its byte order mark.

    Args:
        content: the file.
        encoding: what it is in where it has no byte order mark.
        errors: what becomes of bytes that are not of the encoding, as in `bytes.decode`.

    Raises:
        UnicodeDecodeError, LookupError: it is in another encoding, or that is not known.
    """
    for mark, marked in _MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(marked, errors)
    if encoding == "utf-8" and b"\0" in content[:2]:  # UTF-16 without a mark: every other byte of Latin letters is 0
        return content.decode("utf-16-be" if content[:1] == b"\0" else "utf-16-le", errors)
    return content.decode(encoding, errors)


def read_lines(path: str | os.PathLike, what: str, errors: str = "strict") -> list[str]:
    """The lines of a text file that are not blank, without the blanks around them.

    Args:
        path: the file, in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; lines end with LF, CR LF or CR.
        what: what it holds, for messages.
        errors: "surrogateescape" takes bytes that are no UTF-8 for parts of file names.

    Raises:
        UserError: it cannot be read or is in another encoding.
    """
    path = Path(path)
    try:
        text = decode(read_regular(path), errors=errors)
    except UnicodeDecodeError as error:
        raise UserError(
            f"cannot read {what} in {path}: byte {error.start} is not of {error.encoding.upper()}; save it as UTF-8"
        ) from None
    except OSError as error:
        raise UserError(f"cannot read {what} in {path}: {error.strerror or error}") from None
    return [line for line in map(str.strip, re.split("\r\n|\r|\n", text)) if line]
