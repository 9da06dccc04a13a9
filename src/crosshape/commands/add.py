"""Read, render and sample shapes into a library; what is there already is skipped.

    crosshape add parts/ parts.lance
    crosshape add bracket.stl parts.lance --prefix new/
    crosshape add parts/ parts.lance --exclude drafts --exclude '*.tmp.stl'
    crosshape add parts/ parts.lance --part 3/8      the third of eight processes that share the folder

SHAPES is a folder (searched with all folders below it) or one file. LIBRARY is made where it is not there.
A file is known by its size and time of change (--rehash: by its content); what changed is read again. One
bad file never stops the others: it is listed with its reason, and the exit status is 1. Files of formats that are not
read, as .fbx and .zip, are counted (unread). A stopped run goes on
where it was when it is started again. Files that --exclude leaves out are not looked at, and what the library has of
them stays. A PATTERN is compared with the whole name below SHAPES and with that of each folder above it: drafts is
the folder at the top, '*/drafts' is any further down.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    from crosshape.settings import Limits, PrepareSettings

    helps = {f.name: (f.metadata["help"], f.default) for f in dataclasses.fields(PrepareSettings)}
    caps = {f.name: (f.metadata["help"], f.default) for f in dataclasses.fields(Limits)}
    parser.add_argument("shapes", metavar="SHAPES", help="a folder of shapes, or one file")
    parser.add_argument("library", metavar="LIBRARY", help="the library to make or to bring up to date")
    for name in ("image_size", "views", "points", "supersample"):
        text, default = helps[name]
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=int, metavar="N", help=f"{text} (default {default})"
        )
    text, default = helps["up"]
    parser.add_argument("--up", choices=("auto", "x", "y", "z"), help=text)
    parser.add_argument("--workers", type=int, metavar="N", help="processes that read (default: one a core)")
    for name in ("max_faces", "max_bytes"):
        text, default = caps[name]
        parser.add_argument(
            f"--{name.replace('_', '-')}",
            type=int,
            default=default,
            metavar="N",
            help=f"{text} (default {default:,})",
        )
    parser.add_argument(
        "--prefix", default="", metavar="FOLDER/", help="put the shapes below this folder of the library"
    )
    parser.add_argument(
        "--rehash", action="store_true", help="compare contents, also where size and time are the same"
    )
    exclude_argument(parser)
    parser.add_argument(
        "--part",
        metavar="K/N",
        help="only the K-th of N parts of the files, where N processes or machines share them",
    )
    parser.add_argument(
        "--json", action="store_true", help="one object a line: skipped files, then the summary"
    )


def exclude_argument(parser: argparse.ArgumentParser) -> None:
    """--exclude, of every command that looks for shapes in a folder."""
    parser.add_argument(
        "--exclude",
        action="append",
        default=[],
        metavar="PATTERN",
        help="leave out files and folders of such names below SHAPES, as in drafts or '*.tmp.stl'; may be repeated",
    )


def run(options: argparse.Namespace) -> int:
    import signal

    from crosshape.console import Progress, duration, print_json, printable, say
    from crosshape.errors import MOST_WORKERS, UsageError, check_count, command
    from crosshape.library.adding import add
    from crosshape.library.library import is_library, open_library
    from crosshape.library.parts import parse_part
    from crosshape.search.query import run_named
    from crosshape.settings import Limits, PrepareSettings
    from crosshape.shapes.files import UPRIGHT, excluded_words, links_words, unread_words
    from crosshape.shipped import first_model

    chosen = {
        name: getattr(options, name)
        for name in ("image_size", "views", "points", "supersample", "up")
        if getattr(options, name) is not None
    }
    for name in ("image_size", "views", "points", "supersample", "workers", "max_faces", "max_bytes"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} {value}: it must be at least 1.")
    check_count("--workers", options.workers, MOST_WORKERS)
    part = parse_part(options.part)
    settings = None
    if chosen:
        kept = open_library(options.library).settings if is_library(options.library) else PrepareSettings()
        settings = dataclasses.replace(kept, **chosen)
    made = not is_library(options.library)
    signal.signal(signal.SIGTERM, _stop)
    if not _compiled():
        say("The renderer is compiled first; this happens once and takes some seconds.")
    try:
        library = add(
            options.shapes,
            options.library,
            settings=settings,
            limits=Limits(max_faces=options.max_faces, max_bytes=options.max_bytes),
            workers=options.workers,
            prefix=options.prefix,
            rehash=options.rehash,
            exclude=options.exclude,
            part=part,
            progress=Progress,
        )
    except KeyboardInterrupt:
        say("What was ready is in the library; run the same command again to go on.")
        raise
    report = library.report
    assert report is not None
    if options.json:
        for one in report.skipped:
            print_json({"path": one.path, "reason": one.reason})
        summary = {**vars(report), "skipped": len(report.skipped), "seconds": round(report.seconds, 3)}
        del summary["unfollowed"]  # said in words
        if not report.moved:
            del summary["moved"]
        else:
            summary["moved"] = len(report.moved)
        if not options.exclude:
            del summary["excluded"]
        summary |= {"part": str(part)} if part else {}
        print_json(summary)
    else:
        for one in report.skipped:
            say(f"{printable(one.path)} was skipped: {printable(one.reason)}")
        print(
            f"{printable(options.library)}: {len(library):,} shapes ({report}{f' of part {part}' if part else ''}) in "
            f"{duration(report.seconds)}"
        )
    if report.moved:
        old, new = next(iter(report.moved.items()))
        are = "shape was" if len(report.moved) == 1 else "shapes were"
        say(
            f"{len(report.moved):,} {are} moved or renamed, as {printable(old)} to {printable(new)}; what the library "
            "holds of them went along."
        )
    if report.unfollowed:
        say(links_words([Path(path) for path in report.unfollowed]))
    if report.unread:
        say(unread_words(report.unread))
    if options.exclude:
        say(excluded_words(report.excluded))
    if made and options.up is None:
        formats = library.facts()["format"].to_pylist()
        if count := sum(one not in UPRIGHT for one in formats):
            say(
                f"{count:,} of {len(formats):,} shapes were taken as Z up, as their formats do not say; if they lie on "
                "their side in crosshape serve, start anew with --up y."
            )
    if part is None:
        if gone := library.missing(options.shapes):
            what = command("remove", library.path, "--missing")
            say(f"{len(gone):,} shapes of the library have no file there any more. To remove them: {what}")
        first = first_model(library.settings.image_size)
        if first and not options.json and set(library.models()) == {None}:
            say(f"Next: {command('embed', first, library.path)}")
        elif len(library.models()) > 1:
            say(
                f"Not all shapes have features of one model: {command('embed', run_named(library), library.path)}"
            )
    return 1 if report.skipped else 0


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def _compiled() -> bool:
    """Whether numba's compiled renderer lies where it is kept by default; if not, a line too many is said."""
    import os

    import crosshape

    if os.environ.get("NUMBA_CACHE_DIR"):
        return True
    return any((Path(crosshape.__file__).parent / "shapes" / "__pycache__").glob("raster.*.nbi"))
