"""Take shapes out of a library, with all that was made of them. The files they came from are not touched.

    crosshape remove parts.lance chairs/old.stl
    crosshape remove parts.lance chairs/ --forget
    crosshape remove parts.lance --forget
    crosshape remove parts.lance --missing --dry-run

A NAME that ends in "/" means every shape below it. Older versions of a library stay on disk for about an
hour, for those who still read them; --forget deletes these too, so that nothing of the shapes stays. Without
a NAME it does so for all that was removed or replaced before. --missing takes out the shapes whose files are gone;
with --dry-run it only lists what would be removed. A shape whose file is still there comes back with the next add
of its folder, unless --exclude leaves it out.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crosshape.library.library import Library


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("library", metavar="LIBRARY", help="the library")
    parser.add_argument(
        "names", metavar="NAME", nargs="*", default=[], help="a shape's name, or a folder of names with a /"
    )
    parser.add_argument("--forget", action="store_true", help="also out of the older versions on disk")
    parser.add_argument(
        "--missing", action="store_true", help="the shapes whose files are not there any more"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="list what would be removed, and remove nothing"
    )
    parser.add_argument("--json", action="store_true", help="one object: removed, left, forgotten")


def run(options: argparse.Namespace) -> int:
    from crosshape.console import print_json, printable, say
    from crosshape.errors import UsageError
    from crosshape.library.library import open_library

    if not options.names and not options.forget and not options.missing:
        raise UsageError(
            "give the names of the shapes to remove, --missing for those whose files are gone, or --forget to forget "
            "those removed before."
        )
    library = open_library(options.library)
    names = [*options.names, *(missing_names(library) if options.missing else [])]
    if options.dry_run:
        for name in library.named(names):
            print_json({"name": name}) if options.json else print(printable(name))
        return 0
    there = 0 if options.missing else files_there(library, library.named(names))
    gone = library.remove(names, forget=options.forget) if names or options.forget else []
    if options.json:
        print_json({"removed": len(gone), "left": len(library), "forgotten": options.forget})
    else:
        how = " for good" if options.forget else ""
        print(f"{printable(options.library)}: {len(gone):,} removed{how}, {len(library):,} left")
    if there:
        say(
            f"Files of removed shapes that are still there: {there:,}. The next add of their folder brings the shapes "
            "back, unless --exclude leaves them out."
        )
    return 0


def files_there(library: Library, names: list[str]) -> int:
    """How many of the named shapes have a file where they came from."""
    import os

    named = set(names)
    rows = library.facts().select(["name", "path"]).to_pylist()
    return sum(row["name"] in named and os.path.exists(row["path"]) for row in rows)


def missing_names(library: Library) -> list[str]:
    """The names of the shapes whose files are gone. Raises CrosshapeError where all are: a disk that is not there."""
    from crosshape.errors import CrosshapeError

    gone = library.missing()
    if gone and len(gone) == len(library):
        raise CrosshapeError(
            f"none of the files of {library.path} is there, the first was {library.facts()['path'][0]}. Is their disk "
            "connected? Name folders (NAME/) to remove them all the same."
        )
    return gone
