"""What people said of shapes, by name, in files beside a library: NAME.tags.json and NAME.marks.json."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crosshape.errors import CrosshapeError
from crosshape.files import parse_json, write_whole
from crosshape.places import Address, beside


def tags_file(library: Path | Address) -> Path:
    """Which tags were given and refused: {"labels": {name: tag}, "refused": [[name, tag]]}."""
    return beside(library, ".tags.json")


def marks_file(library: Path | Address) -> Path:
    """What was said of pairs that may be duplicates: {"pairs": [{"a": name, "b": name, "mark": ..., "when": ...}]}."""
    return beside(library, ".marks.json")


MARKS = ("same", "different", "unsure")
"""What can be said of a pair."""


def said_marks(library: Path | Address) -> dict[tuple[str, str], dict[str, Any]]:
    """(name, name), sorted -> what was said of that pair: a, b, mark (one of MARKS), when. Empty where nothing was.

    Raises CrosshapeError for a file that cannot be read.
    """
    file = marks_file(library)
    try:
        pairs = parse_json(file.read_bytes())["pairs"]
        if not all(one["mark"] in MARKS for one in pairs):
            raise ValueError
        ends = [(str(one["a"]), str(one["b"])) for one in pairs]
        return {(min(a, b), max(a, b)): one for (a, b), one in zip(ends, pairs, strict=True)}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError):
        words = f"{file.name} cannot be read. Mend it or move it away; it is not overwritten."
        raise CrosshapeError(words) from None


def rename_notes(library: Path | Address, names: Mapping[str, str]) -> None:
    """Let what was said of shapes be said of their new names; a file that cannot be read is left as it is, and who
    reads it says so.
    """
    if not names:
        return
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        kept = parse_json(tags_file(library).read_bytes())
        kept["labels"] = {names.get(name, name): tag for name, tag in kept["labels"].items()}
        kept["refused"] = sorted([names.get(name, name), tag] for name, tag in kept["refused"])
        _write(tags_file(library), kept)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        kept = parse_json(marks_file(library).read_bytes())
        kept["pairs"] = [
            {**pair, **{end: names.get(pair[end], pair[end]) for end in "ab"}} for pair in kept["pairs"]
        ]
        _write(marks_file(library), kept)


def _write(file: Path, kept: object) -> None:
    write_whole(file, json.dumps(kept, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass") + b"\n")
