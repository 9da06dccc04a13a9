"""Learn tags from a few labelled shapes and propose them for the rest.

    crosshape tag parts.lance --from labels.csv
    crosshape tag parts.lance --from labels.csv --csv proposed.csv --write

labels.csv holds a line for each labelled shape: its name and its tag, as in "lids/round.obj,lid". A proposal is
ready, to review, or has not enough evidence; what precision to expect of each was measured on labelled shapes that
the classifier had not seen. --write keeps the given and the ready tags in the library, for search --tag.
"""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("library", metavar="LIBRARY", help="an embedded library")
    parser.add_argument("--from", dest="labels", required=True, metavar="FILE", help="a CSV of name,tag")
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
    from crosshape.library.library import open_library
    from crosshape.search.tags import STATES, propose, read_labels, write_tags

    library = open_library(options.library)
    labels = read_labels(options.labels, library.names)
    learned, proposals = propose(library, labels, over=options.over)
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
        print_table(["tag", "labelled", "ready", "precision", "to review", "precision"], rows)
    counts = [sum(one.state == state for one in proposals) for state in STATES]
    say(", ".join(f"{count:,} {state}" for count, state in zip(counts, STATES, strict=True)) + ".")
    if options.write:
        ready = {one.name: [one.tag] for one in proposals if one.state == "ready"}
        written = write_tags(library, {name: [tag] for name, tag in labels.items()} | ready)
        say(f"{written:,} tags were written: crosshape search {options.library} QUERY --tag TAG")
    return 0


def write_csv(path: str, rows: list[dict[str, object]]) -> None:
    """Rows as CSV that no spreadsheet takes for formulas."""
    import csv
    import io
    from pathlib import Path

    from crosshape.commands.duplicates import safe_cell
    from crosshape.files import write_whole

    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(rows[0] if rows else ["name", "tag", "score", "state", "precision"])
    writer.writerows([safe_cell(value) for value in row.values()] for row in rows)
    write_whole(Path(path), out.getvalue().encode("utf-8", "backslashreplace"))
