"""Tables for spreadsheets: CSV of which no cell is computed, and from which every text comes back as it was."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Iterable, Sequence

COMPUTED = re.compile(r"'*(\s*[=+\-@]|[\t\r\n])")
"""How cells begin that a spreadsheet would compute (OWASP, CSV injection), apostrophes before it or none."""


def csv_text(head: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A table as CSV; text that would be computed gets an apostrophe in front, which `bare_cell` takes away."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(head)
    writer.writerows([safe_cell(value) for value in row] for row in rows)
    return out.getvalue()


def safe_cell(value: object) -> object:
    """Text that would be computed with one more apostrophe in front; everything else as it is, numbers too."""
    return "'" + value if isinstance(value, str) and COMPUTED.match(value) else value


def bare_cell(text: str) -> str:
    """What `safe_cell` was given."""
    return text[1:] if text[:1] == "'" and COMPUTED.match(text, 1) else text


def plain_words(text: str) -> str:
    """The text with blanks for control characters: for words that are read, not for names."""
    return "".join(" " if unicodedata.category(sign) == "Cc" else sign for sign in text)
