"""Find the shapes that are in a library twice, and in which way; nothing is ever deleted.

    crosshape duplicates parts.lance --html twice.html
    crosshape duplicates parts.lance --csv twice.csv
    crosshape duplicates parts.lance --calibrate 50

Kinds, from the simplest: identical (the same bytes), re-exported, moved, scaled, mirrored, re-meshed, changed. Every
shape of a group was laid on the group's first one and measured, surface to surface; shapes of the same bytes are
listed as copies of the first of them. --calibrate makes copies of your own shapes in all kinds, looks for them, and
prints how many were found and how many pairs were wrong.
"""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crosshape.library.library import Library
    from crosshape.search.duplicates import Group, Pair


MORE = ("group", "path_a", "bytes_a", "path_b", "bytes_b", "mark", "evidence")
"""What --csv and --json say of a pair beside what was measured."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("library", metavar="LIBRARY", help="the library")
    parser.add_argument("--kinds", metavar="K,K", help="only these kinds, as in identical,scaled")
    parser.add_argument("--csv", metavar="FILE", help="write the pairs as a table for a spreadsheet")
    parser.add_argument(
        "--html", metavar="FILE", help="write a page with the pairs side by side, in one file"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes that measure (default: all cores)"
    )
    parser.add_argument(
        "--calibrate",
        type=int,
        metavar="N",
        help="measure precision and recall on copies of N of your shapes",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="which shapes and copies (default: 0)"
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help="a line for each pair: kind, a, b, distance, scale, ...; or each score",
    )


def run(options: argparse.Namespace) -> int:
    from crosshape.console import Progress, print_json, print_table, say
    from crosshape.errors import MOST_WORKERS, UsageError, check_count
    from crosshape.files import PAGES, TABLES, check_output
    from crosshape.library.library import open_library
    from crosshape.library.notes import said_marks
    from crosshape.search.duplicates import KINDS, find_duplicates

    kinds = [kind.strip() for kind in options.kinds.split(",")] if options.kinds else list(KINDS)
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"--kinds names '{kind}'; known are {', '.join(KINDS)}")
    if options.kinds is not None and not options.kinds.strip():
        raise UsageError(f"--kinds names none; known are {', '.join(KINDS)}")
    check_count("--workers", options.workers, MOST_WORKERS)
    check_count("--seed", options.seed, (1 << 63) - 1, least=0)
    if options.calibrate is not None and (options.csv or options.html or options.kinds):
        raise UsageError("--calibrate prints scores; leave --csv, --html and --kinds out")
    if options.csv and options.html and os.path.realpath(options.csv) == os.path.realpath(options.html):
        raise UsageError("--csv and --html name the same file; name two")
    if options.csv:
        check_output(options.csv, TABLES)
    if options.html:
        check_output(options.html, PAGES)
    library = open_library(options.library)
    if options.calibrate is not None:
        return show_calibration(library, options)
    marks = said_marks(library.path)
    groups = find_duplicates(library, workers=options.workers, progress=Progress)
    pairs = [pair for group in groups for pair in group.pairs if pair.kind in kinds]
    lines = told(library, groups, kinds, marks)
    if options.csv:
        write_csv(options.csv, lines)
    if options.html:
        write_pairs(options.html, library, groups, kinds)
    if options.json:
        for line in lines:
            print_json(line)
    elif pairs:
        rows = [[p.kind, p.a, p.b, p.evidence()] for p in pairs]
        print_table(["kind", "shape", "its copy", "evidence"], rows, names=["shape", "its copy"])
    count = len({pair.a for pair in pairs})
    say(
        f"{len(library):,} shapes, {count:,} of them have copies: {len(pairs):,} copies in all. Nothing was deleted."
    )
    return 0


def show_calibration(library: Library, options: argparse.Namespace) -> int:
    """Print the scores of known copies."""
    from crosshape.console import Progress, print_json, print_table, say
    from crosshape.search.copies import calibrate

    scores, across = calibrate(
        library, options.calibrate, seed=options.seed, workers=options.workers, progress=Progress
    )
    if options.json:
        for score in scores:
            print_json({**vars(score), "precision": score.precision, "recall": score.recall})
    else:
        head = [
            "kind",
            "made",
            "found",
            "as simpler",
            "as looser",
            "recall",
            "reported",
            "wrong",
            "precision",
        ]
        print_table(
            head,
            [
                [s.kind, s.made, s.found, s.simpler, s.looser, s.recall, s.reported, s.wrong, s.precision]
                for s in scores
            ],
        )
    if across:
        say(
            "Different shapes of this library that were found to be copies (where both were the user's own files,"
        )
        say("nobody knows, and they count in no score):")
        for line in across[:20]:
            say(f"  {line}")
        if len(across) > 20:
            say(f"  and {len(across) - 20:,} more")
    return 0


def told(
    library: Library, groups: list[Group], kinds: list[str], marks: dict[tuple[str, str], dict[str, Any]]
) -> list[dict[str, object]]:
    """What --csv and --json say of each pair: the measures, then the number of its group, the files, their bytes, what
    was said of it on the page.
    """
    facts = {row["name"]: row for row in library.facts().select(["name", "path", "bytes"]).to_pylist()}
    lines = []
    for number, group in enumerate(groups, 1):
        for pair in group.pairs:
            if pair.kind in kinds:
                mark = marks.get((min(pair.a, pair.b), max(pair.a, pair.b)))
                more: dict[str, object] = {"group": number}
                for end, name in (("a", pair.a), ("b", pair.b)):
                    more |= {f"path_{end}": facts[name]["path"], f"bytes_{end}": facts[name]["bytes"]}
                more |= {"mark": mark["mark"] if mark else None, "evidence": pair.evidence()}
                lines.append(_line(pair) | more)
    return lines


def write_csv(path: str, lines: list[dict[str, object]]) -> None:
    """The pairs as CSV that no spreadsheet takes for formulas."""
    from pathlib import Path

    from crosshape.files import write_whole
    from crosshape.search.duplicates import Pair
    from crosshape.sheets import csv_text

    text = csv_text([*_line(Pair("", "", "")), *MORE], (line.values() for line in lines))
    write_whole(Path(path), text.encode("utf-8", "backslashreplace"))


def write_pairs(path: str, library: Library, groups: list[Group], kinds: list[str]) -> None:
    """A page with every group: the first shape and its copies, with the evidence. What is identical to one of the
    copies has a row of its own, after that of its group.
    """
    from crosshape.search.duplicates import KINDS
    from crosshape.search.pages import Card, Row, library_pictures, write_page

    shown = [(g, [p for p in g.pairs if p.kind in kinds]) for g in groups]
    shown = [(group, pairs) for group, pairs in shown if pairs]
    pictures = library_pictures(library, [n for _, pairs in shown for p in pairs for n in (p.a, p.b)])
    rows = []
    for group, pairs in shown:
        firsts = sorted({p.a for p in pairs}, key=lambda name: (name != group.representative, name))
        for first in firsts:
            what = "group" if first == group.representative else "same bytes"
            copies = [Card(pictures[p.b], p.b, (p.kind, p.evidence())) for p in pairs if p.a == first]
            rows.append(Row(first, [Card(pictures[first], first, (f"the first of the {what}",)), *copies]))
    count = sum(len(pairs) for _, pairs in shown)
    lead = (
        f"{count:,} copies in {len(shown):,} groups of {len(library):,} shapes. Nothing was deleted. "
        + " ".join(f"{kind}: {text}." for kind, text in KINDS.items() if kind in kinds)
    )
    write_page(path, f"Copies in {library.path.name}", lead, rows)


def _line(pair: Pair) -> dict[str, object]:
    return {
        "kind": pair.kind,
        "a": pair.a,
        "b": pair.b,
        "distance": round(pair.distance, 6),
        "scale": round(pair.scale, 6),
        "units": pair.units,
        "angle": round(pair.angle, 3),
        "mirrored": pair.mirrored,
        "shift": round(pair.shift, 6),
        "sampled": pair.sampled,
    }
