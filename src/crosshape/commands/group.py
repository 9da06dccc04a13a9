"""Put like shapes together, with a typical shape for each group and a map of all.

    crosshape group parts.lance --html groups.html
    crosshape group parts.lance --count 20 --json

Groups are dense places among the features; shapes in none stay alone. --count makes that many groups of all
shapes instead. Shapes that are not embedded yet are left out; that is said, and the exit status is 1.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crosshape.library.library import Library
    from crosshape.search.groups import Grouping


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("library", metavar="LIBRARY", help="an embedded library")
    parser.add_argument(
        "--over", choices=("points", "views", "both"), default="both", help="what is compared (default: both)"
    )
    parser.add_argument(
        "--least", type=int, default=5, metavar="N", help="shapes of a group at least (default: 5)"
    )
    parser.add_argument("--count", type=int, metavar="N", help="make exactly so many groups of all shapes")
    parser.add_argument(
        "--html", metavar="FILE", help="write a page with the map and the groups, in one file"
    )
    parser.add_argument(
        "--json", action="store_true", help="a line for each group: group, typical, size, names"
    )


def run(options: argparse.Namespace) -> int:
    from crosshape.console import print_json, print_table, say
    from crosshape.files import PAGES, check_output
    from crosshape.library.library import open_library
    from crosshape.search.groups import group
    from crosshape.search.query import left_out

    if options.html:
        check_output(options.html, PAGES)
    library = open_library(options.library)
    missing, _ = left_out(library)
    if missing:
        say(missing)
    found = group(library, over=options.over, least=options.least, count=options.count)
    if options.html:
        write_groups(options.html, library, found)
    if options.json:
        for one in found.groups:
            print_json(
                {"group": one.number, "typical": one.typical, "size": len(one.names), "names": one.names}
            )
    elif found.groups:
        rows = [[one.number, len(one.names), one.typical, ", ".join(one.names[1:4])] for one in found.groups]
        print_table(["group", "size", "typical", "others"], rows, names=["typical", "others"])
    say(f"{len(found.groups):,} groups of {len(found.names):,} shapes, {len(found.alone):,} in none.")
    return 1 if missing else 0


def write_groups(path: str, library: Library, found: Grouping, shown: int = 12, mapped: int = 1500) -> None:
    """A page: the map with pictures, and of each group the first so many shapes."""
    from crosshape.search.pages import Card, Row, library_pictures, write_page
    from crosshape.search.query import left_out

    at = {
        name: (0.03 + 0.94 * float(x), 0.03 + 0.94 * float(y))
        for name, (x, y) in zip(found.names, found.places, strict=True)
    }
    step = max(1, -(-len(at) // mapped))
    small = library_pictures(library, found.names[::step], size=48)
    cards = [Card(picture, name, (), at[name]) for name, picture in small.items()]
    cards += [Card("", str(one.number), (), at[one.typical]) for one in found.groups]
    large = library_pictures(library, [name for one in found.groups for name in one.names[:shown]], size=112)
    rows = [
        Row(
            f"Group {one.number}: {len(one.names):,} like {one.typical}",
            [
                Card(large[name], name, ("typical",) if name == one.typical else ())
                for name in one.names[:shown]
            ],
            f"and {len(one.names) - shown:,} more" if len(one.names) > shown else "",
        )
        for one in found.groups
    ]
    lead = f"{len(found.groups):,} groups of {len(found.names):,} shapes; {len(found.alone):,} are in none."
    lead = f"{lead} {left_out(library)[0]}".rstrip()
    write_page(path, f"Groups in {library.path.name}", lead, rows, cards)
