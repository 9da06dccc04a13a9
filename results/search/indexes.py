"""Which vector index is made quickly and finds what exact search finds: processor time of making it, recall of ten.

    python results/search/indexes.py FOLDER [COUNT]

COUNT (30,000) vectors as million.py makes them; 40 of them ask. Every setting is searched at three widths.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
from million import make

from crosshape.console import print_table
from crosshape.library.library import open_library
from crosshape.search.index import Index, exact_nearest, nearest
from crosshape.settings import FEATURES

COLUMN = "feature_points"
QUICK = {"sample_rate": 32, "max_iters": 15}
KINDS = {
    "IVF_PQ, 64 parts, as Lance trains": ("IVF_PQ", {"num_sub_vectors": 64}),
    "IVF_PQ, 64 parts": ("IVF_PQ", {"num_sub_vectors": 64, **QUICK}),
    "IVF_PQ, 32 parts": ("IVF_PQ", {"num_sub_vectors": 32, **QUICK}),
    "IVF_RQ": ("IVF_RQ", QUICK),
    "IVF_SQ": ("IVF_SQ", QUICK),
}
WIDTHS = ((8, 5), (16, 10), (32, 10))


def main() -> None:
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 30_000
    path = Path(sys.argv[1], "indexes.lance")
    if not path.exists():
        make(path, count)
    library = open_library(path)
    rows = np.sort(np.random.default_rng(0).choice(len(library), 40, replace=False))
    table = library.dataset.take(rows.tolist(), columns=[COLUMN])
    asked = table[COLUMN].combine_chunks().flatten().to_numpy().reshape(-1, FEATURES)
    exact = exact_nearest(library, COLUMN, asked, 10)
    lines = []
    for name, (kind, more) in KINDS.items():
        begin = time.process_time()
        library.dataset.create_index(
            COLUMN, kind, metric="cosine", replace=True, num_partitions=round(count**0.5), **more
        )
        made = time.process_time() - begin
        library.refresh()
        line: list[object] = [name, made]
        for cells, refine in WIDTHS:
            how = Index(count, cells, refine, 0.0)
            found = [set(nearest(library, COLUMN, v, 10, how)["name"].to_pylist()) for v in asked]
            line.append(np.mean([len(a & b) / 10 for a, b in zip(found, exact, strict=True)]))
        lines.append(line)
    print_table(["index", "made in s", *(f"recall {cells}, {refine}" for cells, refine in WIDTHS)], lines)


if __name__ == "__main__":
    main()
