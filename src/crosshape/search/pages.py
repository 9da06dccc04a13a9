"""Self-contained pages of what was found: pictures inside, nothing loaded from anywhere, all texts escaped."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crosshape.files import write_whole

if TYPE_CHECKING:
    from crosshape.library.library import Library

FRONTAL = 1
"""The view that is shown: 30 degrees off the front, so that depth can be seen."""


@dataclass(frozen=True)
class Card:
    """One picture with a title and lines of words; `place` (x, y), 0 to 1, on a map."""

    picture: str
    title: str
    lines: Sequence[str] = ()
    place: tuple[float, float] | None = None


@dataclass(frozen=True)
class Row:
    """Cards side by side under a heading."""

    heading: str
    cards: Sequence[Card]
    note: str = ""


def library_pictures(library: Library, names: Sequence[str], size: int = 160) -> dict[str, str]:
    """Name -> data URI of a view."""
    wanted = sorted(set(names))
    out = {}
    for start in range(0, len(wanted), 64):
        part = wanted[start : start + 64]
        views = library.views(part, size=min(size, library.settings.image_size))
        out.update({n: data_uri(v[FRONTAL % len(v)]) for n, v in zip(part, views, strict=True)})
    return out


def data_uri(picture: np.ndarray) -> str:
    """(S, S) uint8 -> a PNG as data URI."""
    from crosshape.library.adding import encode_view

    return "data:image/png;base64," + base64.b64encode(encode_view(picture)).decode()


def write_page(
    path: str | Path, title: str, lead: str, rows: Sequence[Row], map_cards: Sequence[Card] = ()
) -> None:
    """Write the page, as a whole or not at all. Raises OSError."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("crosshape.search", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("page.html").render(
        title=title, lead=lead, rows=rows, map_cards=map_cards
    )
    write_whole(Path(path), text.encode("utf-8", "backslashreplace"))
