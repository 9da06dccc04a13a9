"""Search among a million shapes: time of a warm query, recall of the first ten, memory of the process.

    python results/search/million.py FOLDER [COUNT]

Makes a library of COUNT (1,000,000) rows with features of 512 numbers in FOLDER (about 6 GB), once. The vectors are
made: places in 24 dimensions around 2,000 centres, taken through a random layer to 512 numbers, rectified, with a
little noise: features of a network lie near a surface of few dimensions too. Then 200 shapes ask over points in a
fresh process.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from crosshape.search import index, query
from crosshape.settings import FEATURES, PrepareSettings
from crosshape.tasks.retrieval import unit

BLOCK = 20_000
SETTINGS = PrepareSettings(points=1, views=1, image_size=8)


def vectors(count: int, seed: int) -> np.ndarray:
    """(count, 512) float32."""
    fixed = np.random.default_rng(0)
    centres, first = fixed.normal(size=(2000, 24)), fixed.normal(size=(24, FEATURES)) / 5
    random = np.random.default_rng(seed)
    places = centres[random.integers(0, 2000, count)] + 0.35 * random.normal(size=(count, 24))
    out = np.maximum(places @ first, 0) + 0.02 * random.normal(size=(count, FEATURES))
    return out.astype(np.float32)


def make(path: Path, count: int) -> None:
    """A library of rows that have facts and features, and next to nothing else."""
    import lance
    import pyarrow as pa

    from crosshape.library.library import library_schema

    schema = library_schema(SETTINGS)

    def batches():
        for start in range(0, count, BLOCK):
            rows = min(BLOCK, count - start)
            feature = vectors(rows, start + 1)
            fixed = pa.FixedSizeListArray.from_arrays(pa.array(feature.reshape(-1)), FEATURES)
            columns = []
            for field in schema:
                if field.name in ("name", "path", "content_hash"):
                    columns.append(
                        pa.array([f"{i % 100:02d}/{i:07d}.stl" for i in range(start, start + rows)])
                    )
                elif field.name.startswith("feature_"):
                    columns.append(fixed)
                elif field.name == "model":
                    columns.append(pa.array(["made0000"] * rows))
                elif field.name == "faces":
                    columns.append(pa.array(np.arange(start, start + rows) % 5000))
                else:
                    columns.append(pa.nulls(rows, field.type))
            yield pa.record_batch(columns, schema=schema)

    reader = pa.RecordBatchReader.from_batches(schema, batches())
    lance.write_dataset(reader, str(path), max_rows_per_file=BLOCK * 10)


def ask(path: Path) -> None:
    """Time 200 queries in this process."""
    from crosshape.library.library import open_library

    library = open_library(path)
    query.EXACT = 1000
    names = ["name"]
    rows = np.random.default_rng(5).choice(len(library), 200, replace=False)
    asked = library.dataset.take(np.sort(rows).tolist(), columns=[*names, "feature_points"])
    points = unit(asked["feature_points"].combine_chunks().flatten().to_numpy().reshape(-1, FEATURES))
    start = time.monotonic()
    how = index.ready(library, "feature_points")
    print(f"index ready after {time.monotonic() - start:.0f} s: {how}", flush=True)
    times, used = [], []
    for vector in np.concatenate([points, points]):  # what is warm has been asked before
        begin, cpu = time.monotonic(), time.process_time()
        index.ask(library, [query.Sought(vector, vector)], 10, "points", None)
        times.append(1000 * (time.monotonic() - begin))
        used.append(1000 * (time.process_time() - cpu))
    found = [
        set(index.nearest(library, "feature_points", v, 10, how)["name"].to_pylist()) for v in points[:50]
    ]
    first, last = np.array(times[:1]), np.array(times[len(points) :])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    exact = index.exact_nearest(library, "feature_points", points[:50], 10)
    recall = np.mean([len(a & b) / 10 for a, b in zip(found, exact, strict=True)])
    print(
        f"{len(library):,} shapes: first query {first[0]:.0f} ms; warm: middle {np.median(last):.1f} ms, "
        f"95 % {np.quantile(last, 0.95):.1f} ms (processor {np.median(used[len(points) :]):.1f} ms); "
        f"recall of the first ten {recall:.3f}; "
        f"peak memory {peak:.2f} GB; load {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    place = Path(sys.argv[1], "million.lance")
    if len(sys.argv) > 3 and sys.argv[3] == "ask":
        ask(place)
    else:
        rows = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
        if not place.exists():
            begin = time.monotonic()
            make(place, rows)
            print(f"library made in {time.monotonic() - begin:.0f} s", flush=True)
        for _ in range(2):  # the first run makes the index
            subprocess.run([sys.executable, __file__, sys.argv[1], str(rows), "ask"], check=True)
