"""Precision and recall by kind on known copies, what was missed, and the time of each step.

    python results/duplicates/calibrate.py meshes.lance 300
    python results/duplicates/calibrate.py meshes.lance 300 --folder KEEP

Made by `crosshape duplicates LIBRARY --calibrate N` too; this script also says how long each step took, and lists
every copy that was not found or only as a looser kind. --folder keeps the copies and their library.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from crosshape.console import print_table
from crosshape.library.adding import add
from crosshape.library.library import open_library
from crosshape.search import copies
from crosshape.search.duplicates import KINDS, find_duplicates
from crosshape.settings import Limits


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("library")
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        measure(options, options.folder or Path(made))


def measure(options: argparse.Namespace, folder: Path) -> None:
    library = open_library(options.library)
    clock = Clock()
    origins = copies.make_copies(
        library, folder / "shapes", options.count, options.seed, None, Limits(), None
    )
    clock.say("copies made")
    made = add(folder / "shapes", folder / "copies.lance", settings=library.settings)
    clock.say(f"added: {made.report}")
    copies._embed(library, made, None)
    clock.say("embedded")
    groups = find_duplicates(made)
    clock.say(f"duplicates looked for among {len(made):,} shapes")
    scores, across = copies.count_scores(groups, origins, set(made.names))
    columns = ["kind", "made", "found", "simpler", "looser", "recall", "reported", "wrong", "precision"]
    print_table(columns, [[getattr(score, column) for column in columns] for score in scores])
    order = list(KINDS)
    found = {pair.b: pair.kind for group in groups for pair in group.pairs if "/0-original" in pair.a}
    for name in made.names:
        kind = name.split("/")[1].split(".")[0]
        if kind in order and order.index(found.get(name, order[-1])) > order.index(kind):
            print(f"missed: {name} of {origins[int(name.split('/')[0])]}: {found.get(name)}")
        elif kind in order and name not in found:
            print(f"missed: {name} of {origins[int(name.split('/')[0])]}: not found")
    for line in across:
        print("across:", line)


class Clock:
    """Seconds by the clock and of the processor (children included) since it spoke last."""

    def __init__(self) -> None:
        self.then = (time.monotonic(), sum(os.times()[:4]))

    def say(self, what: str) -> None:
        now = (time.monotonic(), sum(os.times()[:4]))
        spent, used = (after - before for after, before in zip(now, self.then, strict=True))
        print(
            f"{what}: {spent:.0f} s, {used:.0f} s of processor time, load {os.getloadavg()[0]:.1f}",
            flush=True,
        )
        self.then = (time.monotonic(), sum(os.times()[:4]))


if __name__ == "__main__":
    main()
