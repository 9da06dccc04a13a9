"""Write features beside the shapes of a library, marked with the model that made them.

    crosshape embed runs/parts parts.lance
    crosshape embed modelnet40 parts.lance     without training: a model that comes with crosshape
    crosshape embed modelnet40 parts.lance --device cuda:2 --part 3/8      the third of eight that share the work

Only shapes that have no features of this model yet are embedded, so that it costs little to run it again
after some were added.
"""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run folder, or the name of a model that comes along")
    parser.add_argument("library", metavar="LIBRARY", help="the library")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    parser.add_argument(
        "--part",
        metavar="K/N",
        help="only the K-th of N parts of the shapes, where N processes or machines share them",
    )
    parser.add_argument("--json", action="store_true", help="one object: embedded, unchanged, model, seconds")


def run(options: argparse.Namespace) -> int:
    import signal
    import time
    from pathlib import Path

    from crosshape.console import Progress, duration, print_json, printable, say
    from crosshape.errors import command
    from crosshape.learning.run import unfinished
    from crosshape.library.embedding import embed
    from crosshape.library.library import open_library
    from crosshape.library.parts import parse_part
    from crosshape.networks.model import load_model
    from crosshape.shipped import model_words

    start = time.monotonic()
    part = parse_part(options.part)
    library = open_library(options.library)
    signal.signal(signal.SIGTERM, _stop)
    model = load_model(options.run, options.device)
    if (state := unfinished(Path(options.run))) is not None:
        say(f"{printable(options.run)} is {state}: its features will change. Finish it with train --resume.")
    try:
        count = embed(model, library, part=part, progress=Progress)
    except KeyboardInterrupt:
        library.refresh()
        ready = library.models()[model.fingerprint]
        say(
            f"{ready:,} of {len(library):,} shapes have features of model {model_words(model.fingerprint)}; "
            "run the same command again to go on."
        )
        raise
    seconds = time.monotonic() - start
    mine = len(part.places(len(library))) if part else len(library)
    if options.json:
        left = {"embedded": count, "unchanged": mine - count, "model": model.fingerprint}
        left |= {"part": str(part)} if part else {}
        print_json({**left, "seconds": round(seconds, 3)})
    else:
        print(
            f"{printable(options.library)}: {count:,} of {mine:,} shapes"
            f"{f' (part {part})' if part else ''} embedded by model "
            f"{model_words(model.fingerprint)} in {duration(seconds)}"
        )
        if count and part is None:
            look = command("search", library.path, "SHAPE"), command("serve", library.path)
            say(f"Next: {look[0]}, or {look[1]}")
    return 0


def _stop(*_: object) -> None:
    raise KeyboardInterrupt
