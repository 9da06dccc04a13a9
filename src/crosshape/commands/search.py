"""Find the shapes of a library that are most like a shape file, or like a shape of the library.

    crosshape search parts.lance bracket.stl --top 5
    crosshape search parts.lance lids/round.obj --over points

The score is a cosine: 1 is the same shape to the model, 0 has nothing in common. A file is prepared exactly
as the shapes of the library were, and read by the model that embedded it.
"""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("library", metavar="LIBRARY", help="an embedded library")
    parser.add_argument("query", metavar="QUERY", help="a shape file, or the name of a shape in the library")
    parser.add_argument("--top", type=int, default=10, metavar="K", help="hits shown (default: 10)")
    parser.add_argument(
        "--over",
        choices=("points", "views", "both"),
        default="both",
        help="what is compared (default: both)",
    )
    parser.add_argument(
        "--model", metavar="RUN", help="the run that embedded the library, where it was moved"
    )
    parser.add_argument("--json", action="store_true", help="a line for each hit: rank, score, name, path")


def run(options: argparse.Namespace) -> int:
    from crosshape.console import print_json, print_table
    from crosshape.library.library import open_library
    from crosshape.search.query import search

    library = open_library(options.library)
    hits = search(library, options.query, top=options.top, over=options.over, model=options.model)
    if options.json:
        for hit in hits:
            print_json(vars(hit))
        return 0
    print_table(["rank", "score", "name"], [[hit.rank, hit.score, hit.name] for hit in hits])
    return 0
