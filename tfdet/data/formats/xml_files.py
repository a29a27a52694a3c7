"""xml of annotations, in any encoding."""

from __future__ import annotations

import codecs
import pathlib
import re
import xml.etree.ElementTree as ElementTree

from tfdet.files import read_regular
from tfdet.text import decode

_DECLARED = re.compile(rb"""\s*<\?xml\s[^>]*?encoding\s*=\s*["']([^"']*)["']""")
# Encodings that are declared by the name of a part of them, and of what files are written in all the same.
_WIDER = {"gb2312": "gb18030", "gbk": "gb18030", "ascii": "utf-8"}


class XmlError(Exception):
    """The annotation cannot be read; the message says why, without the file."""


def parse_xml(path: pathlib.Path) -> ElementTree.Element:
    """The root of an xml file.

    Args:
        path: in the encoding that it declares, or with a byte order mark.

    Returns:
        The root element; names of elements are without name space.

    Raises:
        OSError: the file cannot be read.
        XmlError: it is not xml, or not of its encoding.
    """
    content = read_regular(path)
    declared = _DECLARED.match(content)
    stated = declared[1].decode("ascii", "replace") if declared else "utf-8"
    try:
        encoding = codecs.lookup(stated).name
        # Who can read the declaration byte by byte has no UTF-16 before him, whatever it says.
        encoding = "utf-8" if encoding.startswith(("utf-16", "utf-32")) else _WIDER.get(encoding, encoding)
        root = ElementTree.fromstring(decode(content, encoding).lstrip())
    except LookupError:
        raise XmlError(f"its encoding {stated!r} is not known; save it as UTF-8") from None
    except UnicodeDecodeError as error:
        raise XmlError(f"byte {error.start} is not of its encoding, {stated}; save it as UTF-8") from None
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise XmlError(f"not valid xml: {error}") from None
    for element in root.iter():
        if isinstance(element.tag, str):
            element.tag = element.tag.rpartition("}")[2]
    return root
