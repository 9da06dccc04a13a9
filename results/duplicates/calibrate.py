"""Precision and recall by kind on known copies, and the time of the search: one table and one line.

    python results/duplicates/calibrate.py meshes.lance 300

Made by `crosshape duplicates LIBRARY --calibrate N` too; this script also says how long each step took.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from crosshape.console import print_table
from crosshape.library.adding import add
from crosshape.library.library import open_library
from crosshape.search import copies
from crosshape.search.duplicates import find_duplicates
from crosshape.settings import Limits


def main() -> None:
    library, count = open_library(sys.argv[1]), int(sys.argv[2])
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    with tempfile.TemporaryDirectory() as folder:
        shapes = Path(folder, "shapes")
        origins = copies.make_copies(library, shapes, count, seed, None, Limits(), None)
        made = add(shapes, Path(folder, "copies.lance"), settings=library.settings)
        print(made.report, flush=True)
        copies._embed(library, made, None)
        start, cpu = time.monotonic(), os.times()
        groups = find_duplicates(made)
        used = os.times()
        seconds = time.monotonic() - start
        scores, across = copies.count_scores(groups, origins, set(made.names))
    columns = ["kind", "made", "found", "simpler", "looser", "recall", "reported", "wrong", "precision"]
    print_table(columns, [[getattr(score, column) for column in columns] for score in scores])
    processor = sum(used[:4]) - sum(cpu[:4])
    print(
        f"{len(made):,} shapes in {seconds:.0f} s ({processor:.0f} s of processor time), load {os.getloadavg()[0]:.1f}"
    )
    for line in across:
        print("across:", line)


if __name__ == "__main__":
    main()
