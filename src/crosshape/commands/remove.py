"""Take shapes out of a library, with all that was made of them. The files they came from are not touched.

    crosshape remove parts.lance chairs/old.stl
    crosshape remove parts.lance chairs/ --forget
    crosshape remove parts.lance --forget

A NAME that ends in "/" means every shape below it. Older versions of a library stay on disk for about an
hour, for those who still read them; --forget deletes these too, so that nothing of the shapes stays. Without
a NAME it does so for all that was removed or replaced before.
"""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("library", metavar="LIBRARY", help="the library")
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help="a shape's name, or a folder of names with a /"
    )
    parser.add_argument("--forget", action="store_true", help="also out of the older versions on disk")
    parser.add_argument("--json", action="store_true", help="one object: removed, left, forgotten")


def run(options: argparse.Namespace) -> int:
    from crosshape.console import print_json, printable
    from crosshape.errors import UsageError
    from crosshape.library.library import open_library

    if not options.names and not options.forget:
        raise UsageError(
            "give the names of the shapes to remove, or --forget to forget those removed before."
        )
    library = open_library(options.library)
    gone = library.remove(options.names, forget=options.forget)
    if options.json:
        print_json({"removed": len(gone), "left": len(library), "forgotten": options.forget})
    else:
        how = " for good" if options.forget else ""
        print(f"{printable(options.library)}: {len(gone):,} removed{how}, {len(library):,} left")
    return 0
