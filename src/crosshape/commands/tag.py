"""Learn tags from a few labelled shapes and propose them for the rest.

    crosshape tag parts.lance --from labels.csv
    crosshape tag parts.lance --from labels.csv --csv proposed.csv --write
    crosshape tag parts.lance --write

labels.csv holds a line for each labelled shape: its name and its tag, as in "lids/round.obj,lid". Tags that people
gave on the page of crosshape serve count as well, and alone where there is no --from; what they refused is not
proposed, and learned from. A proposal is ready, to review, or has not enough evidence; what precision to expect of
each was measured on labelled shapes that the classifier had not seen, and is not told where many shapes of the
library are like none of these: label some of them as "other". Three labelled shapes of a tag are enough to propose
it, ten for a precision, and nothing can be ready with fewer than 19. --write keeps the given and the ready tags in
the library, for search --tag and the page; tags kept by an earlier run that are neither now are removed. Shapes that
are not embedded yet are left out and keep their tags; that is said, and the exit status is 1.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crosshape.library.library import Library


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("library", metavar="LIBRARY", help="an embedded library")
    parser.add_argument(
        "--from", dest="labels", metavar="FILE", help="a CSV of name,tag (default: what the page was told)"
    )
    parser.add_argument(
        "--over",
        choices=("points", "views", "both"),
        default="both",
        help="what is learned from (default: both)",
    )
    parser.add_argument(
        "--csv", metavar="FILE", help="write the proposals: name, tag, score, state, precision"
    )
    parser.add_argument("--write", action="store_true", help="keep given and ready tags in the library")
    parser.add_argument(
        "--json", action="store_true", help="a line for each proposal: name, tag, score, state, ..."
    )


def run(options: argparse.Namespace) -> int:
    from crosshape.console import print_json, print_table, say
    from crosshape.errors import command
    from crosshape.files import TABLES, check_output
    from crosshape.library.library import open_library
    from crosshape.search.query import compared, left_out
    from crosshape.search.tags import STATES, SURE, doubt, propose, write_tags

    if options.csv:
        check_output(options.csv, TABLES, [options.labels] if options.labels else [])
    library = open_library(options.library)
    labels, refused = gathered(library, options.labels)
    missing, _ = left_out(library)
    if missing:
        say(missing)
    learned, proposals = propose(library, labels, over=options.over, refused=refused)
    if options.csv:
        write_csv(options.csv, [vars(one) for one in proposals])
    if options.json:
        for one in proposals:
            print_json(vars(one))
    else:
        rows = []
        for about in learned:
            mine = [one for one in proposals if one.tag == about.tag]
            counts = [sum(one.state == state for one in mine) for state in STATES]
            rows.append(
                [
                    about.tag,
                    about.labelled,
                    counts[0],
                    about.ready_precision,
                    counts[1],
                    about.review_precision,
                ]
            )
        head = ["tag", "labelled", "ready", "precision", "to review", "precision"]
        print_table(head, rows, names=["tag"])
    counts = [sum(one.state == state for one in proposals) for state in STATES]
    say(", ".join(f"{count:,} {state}" for count, state in zip(counts, STATES, strict=True)) + ".")
    if options.write:
        ready = {one.name: [one.tag] for one in proposals if one.state == "ready"}
        tags = {name: [tag] for name, tag in labels.items()} | ready
        known = set(compared(library).names)
        stored = {name: some for name, some in library.tags().items() if name in known or name in labels}
        removed = sum(tag not in tags.get(name, ()) for name, some in stored.items() for tag in some)
        write_tags(library, {name: [] for name in stored} | tags)
        say(f"{len(tags):,} tags were written: {command('search', options.library, 'QUERY', '--tag', 'TAG')}")
        if removed:
            say(f"{removed:,} tags of the library were removed: they are neither given nor ready now.")
    if proposals and (unsure := doubt(learned)):
        say(unsure)
    elif proposals and not counts[0]:
        say(
            f"Nothing is ready: that takes {SURE} labelled shapes of a tag or more that are told from the others."
        )
    return 1 if missing else 0


def gathered(library: Library, file: str | None) -> tuple[dict[str, str], set[tuple[str, str]]]:
    """The labels of a file, and of the page for other shapes; (name, tag) that were refused. Raises CrosshapeError."""
    from crosshape.console import say
    from crosshape.errors import CrosshapeError, command
    from crosshape.search.tags import read_labels, said_tags

    names = set(library.names)
    given, refused = said_tags(library.path)
    here = {name: tag for name, tag in given.items() if name in names}
    if len(here) < len(given):
        say(
            f"{len(given) - len(here):,} tags of the page are of shapes that are not in the library any more."
        )
    labels = read_labels(file, library.names) if file is not None else {}
    more = {name: tag for name, tag in here.items() if name not in labels}
    if file is not None and more:
        say(f"{len(more):,} more tags were given on the page.")
    if not labels and not more:
        raise CrosshapeError(
            f"nobody gave a tag on the page of {library.path}. Name a file of labels (--from labels.csv), or give "
            f"some: {command('serve', library.path)}"
        )
    # What a file says now counts more than a refusal on the page before.
    return labels | more, {(name, tag) for name, tag in refused if labels.get(name) != tag}


def write_csv(path: str, rows: list[dict[str, object]]) -> None:
    """Rows as CSV that no spreadsheet takes for formulas."""
    from pathlib import Path

    from crosshape.files import write_whole
    from crosshape.sheets import csv_text

    head = list(rows[0]) if rows else ["name", "tag", "score", "state", "precision"]
    text = csv_text(head, (row.values() for row in rows))
    write_whole(Path(path), text.encode("utf-8", "backslashreplace"))
