"""What data sets are known, what a folder holds, and fetching what may be fetched.

crosshape datasets                      the known data sets: size, source, terms
crosshape datasets --layouts            the ways a folder may be laid out
crosshape datasets data/ModelNet40      what lies there, and whether it is complete
crosshape datasets get modelnet10 data  download and unpack; run again to continue
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from crosshape.console import Progress, print_json, print_table, printable, say
from crosshape.errors import UsageError


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", nargs="*", metavar="PATH | get NAME [FOLDER]", help="a folder, h5 or CSV file"
    )
    parser.add_argument("--layout", help="read PATH in this layout instead of recognising it")
    parser.add_argument("--layouts", action="store_true", help="list the layouts")
    parser.add_argument("--classes", action="store_true", help="list the classes of PATH with their counts")
    parser.add_argument("--json", action="store_true", help="one object a line")


def run(options: argparse.Namespace) -> int:
    if options.layouts:
        return _list_layouts(options.json)
    if not options.what:
        return _list_known(options.json)
    if options.what == ["get"]:
        raise UsageError(
            "name a data set: crosshape datasets get NAME [FOLDER]; crosshape datasets lists them"
        )
    if options.what[0] == "get":
        return _get(options.what[1:], options.json)
    if len(options.what) > 1:
        raise UsageError("give one path, or: crosshape datasets get NAME [FOLDER]")
    return _describe(options)


def _list_layouts(as_json: bool) -> int:
    from crosshape.shapes.layouts import LAYOUTS

    if as_json:
        for name, help_line in LAYOUTS.items():
            print_json({"layout": name, "form": help_line})
    else:
        print_table(("layout", "form"), list(LAYOUTS.items()))
    return 0


def _list_known(as_json: bool) -> int:
    from crosshape.shapes.datasets import KNOWN, MODELNET40_H5_MD5

    for entry in KNOWN if as_json else ():
        files = MODELNET40_H5_MD5 if entry.name == "modelnet40-h5" else None
        print_json(dataclasses.asdict(entry) | {"file_md5": files})
    if as_json:
        return 0
    rows = [(e.name, e.classes, e.counts, "get" if e.archive else "by hand", e.title) for e in KNOWN]
    print_table(("name", "classes", "shapes: train / val / test", "fetch", "what"), rows)
    for entry in KNOWN:
        print(f"\n{entry.name}: {entry.home}\n  terms: {entry.licence}")
        if entry.archive:
            print(f"  archive: {entry.archive}\n  checksum of the archive: {entry.md5 or 'none published'}")
        if entry.note:
            print(f"  note: {entry.note}")
    return 0


def _describe(options: argparse.Namespace) -> int:
    from crosshape.shapes.datasets import damaged
    from crosshape.shapes.layouts import open_layout

    layout = open_layout(options.what[0], options.layout)
    remarks = list(layout.warnings)
    bad = damaged(sorted({i.path for i in layout.items})) if layout.name == "modelnet-h5" else []
    remarks += [f"{file} does not have the known MD5: damaged, or another edition" for file in bad]
    sizes = {c: dict.fromkeys(layout.counts, 0) for c in layout.classes}
    for item in layout.items:
        sizes[layout.classes[item.label]][item.split] += 1
    if options.json:
        print_json(
            {
                "path": str(layout.path),
                "layout": layout.name,
                "variant": layout.variant,
                "complete": layout.complete,
                "counts": layout.counts,
                "classes": sizes,
                "parts": layout.has_parts,
                "pictures": layout.has_pictures,
                "fingerprint": layout.fingerprint,
                "warnings": remarks,
            }
        )
        return 0
    print(printable(f"{layout.note} (layout {layout.name}, fingerprint {layout.fingerprint})"))
    if options.classes:
        rows = [(c, *counts.values()) for c, counts in sizes.items()]
        print_table(("class", *layout.counts), rows)
    for remark in remarks:
        say(printable(f"warning: {remark}."))
    return 0


def _get(words: list[str], as_json: bool) -> int:
    from crosshape.shapes.datasets import fetch, known

    if len(words) > 2:
        raise UsageError("crosshape datasets get NAME [FOLDER]")
    entry = known(words[0])
    folder = Path(words[1] if len(words) == 2 else ".")
    if entry.archive:
        say(f"{entry.title}\n  from {entry.archive}\n  terms: {entry.licence} ({entry.home})")
    line = Progress("fetching", 0, "MB")

    def show(done: int, total: int) -> None:
        line.total = total >> 20
        line.advance((done >> 20) - line.done)

    try:
        found = fetch(entry, folder, show)
    finally:
        line.close()
    for path in found:
        if as_json:
            print_json({"name": entry.name, "path": str(path)})
        else:
            print(path)
    return 0
