"""Load on loopback: people who search at once, beside one who brings files. Prints a table, and a row of JSON.

    python results/serve/load.py --shapes 100000 --people 50 --seconds 30

Makes a library of random features (no files behind it), serves it in a process of its own, and asks it. Each
person asks for the shapes like a random one, looks at a page of the grid and at 12 thumbnails, over and over.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa

KINDS = ("search", "grid", "thumbnail", "upload")


def make(path: Path, count: int) -> None:
    """A library of `count` rows with random features of 40 classes, one view of 64 pixels each."""
    import lance

    from crosshape.library.adding import encode_view
    from crosshape.library.library import library_schema
    from crosshape.settings import FEATURES, PrepareSettings

    settings = PrepareSettings(points=256, views=1, image_size=64)
    schema = library_schema(settings)
    random = np.random.default_rng(0)
    classes = random.normal(size=(40, FEATURES)).astype(np.float32)
    views = [encode_view(random.integers(0, 256, (64, 64), dtype=np.uint8) // 8 * 8) for _ in range(64)]

    def wide(array: np.ndarray) -> pa.Array:
        return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), array.shape[1])

    def batches():
        for start in range(0, count, 4096):
            rows = np.arange(start, min(start + 4096, count))
            feature = (classes[rows % 40] + random.normal(size=(len(rows), FEATURES))).astype(np.float32)
            three = np.ones((len(rows), 3))
            columns = {
                "name": pa.array([f"class_{r % 40:02d}/shape_{r:07d}.stl" for r in rows]),
                "path": pa.array([f"/nowhere/shape_{r:07d}.stl" for r in rows]),
                "content_hash": pa.array([f"{r:064x}"[::-1] for r in rows]),
                "format": pa.array(["stl"] * len(rows)),
                **{
                    key: pa.array(rows.astype(np.int64) + 1)
                    for key in ("bytes", "faces", "vertices", "modified")
                },
                "area": pa.array(np.ones(len(rows))),
                "radius": pa.array(np.ones(len(rows))),
                "extents": wide(three),
                "centre": wide(three),
                "notes": pa.array([[]] * len(rows), pa.list_(pa.string())),
                "points": wide(np.zeros((len(rows), settings.points * 3), np.float32)),
                "normals": wide(np.zeros((len(rows), settings.points * 3), np.float16)),
                "views": pa.array([[views[r % 64]] for r in rows], pa.list_(pa.large_binary())),
                "feature_points": wide(feature),
                "feature_views": wide(feature),
                "feature_each_view": wide(feature),
                "model": pa.array(["0badcafe"] * len(rows)),
            }
            arrays = [columns[field.name].cast(field.type) for field in schema]
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    lance.write_dataset(pa.RecordBatchReader.from_batches(schema, batches()), str(path))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shapes", type=int, default=100_000)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--library", type=Path, help="ask this library instead of a made one")
    parser.add_argument("--upload", type=Path, help="a file that one more person brings over and over")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        library = options.library or Path(folder) / "load.lance"
        if options.library is None:
            make(library, options.shapes)
        begun = time.perf_counter()
        command = [sys.executable, "-m", "crosshape", "serve", str(library), "--port", "0", "--no-browser"]
        server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            assert server.stderr is not None
            line = server.stderr.readline()
            port = int(re.search(r":(\d+)/", line)[1])  # type: ignore[index]
            ask(port, "GET", "/healthz")
            opened = time.perf_counter() - begun
            total = json.loads(ask(port, "GET", "/shapes?limit=1")[1])["total"]
            step = max(1, total // 400)
            shapes = [
                json.loads(ask(port, "GET", f"/shapes?limit=1&offset={i}")[1])["shapes"][0]
                for i in range(0, total, step)
            ]
            ask(port, "GET", f"/search?id={shapes[0]['id']}&top=24")
            times, errors = people(port, shapes, total, options)
            memory = int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{server.pid}/status").read_text())[1])  # type: ignore[index]
        finally:
            server.terminate()
            server.wait(30)
    row = {
        "date": datetime.now(UTC).date().isoformat(),
        "shapes": total,
        "people": options.people,
        "seconds": options.seconds,
        "open_seconds": round(opened, 1),
        "errors": errors,
        "memory_mb": memory // 1024,
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.processor() or platform.machine(),
        "load_before": round(os.getloadavg()[2], 1),
    }
    print(f"{'what':<10} {'count':>7} {'a second':>9} {'median ms':>10} {'p99 ms':>8} {'worst ms':>9}")
    for kind in KINDS:
        if times[kind]:
            found = np.array(times[kind]) * 1000
            middle, high, worst = np.median(found), np.quantile(found, 0.99), found.max()
            rate = len(found) / options.seconds
            print(f"{kind:<10} {len(found):>7} {rate:>9.1f} {middle:>10.1f} {high:>8.1f} {worst:>9.1f}")
            row[kind] = {
                "count": len(found),
                "median_ms": round(float(middle), 1),
                "p99_ms": round(float(high), 1),
            }
    print(json.dumps(row))


def people(port: int, shapes: list, total: int, options: argparse.Namespace) -> tuple[dict, int]:
    """What each kind of request took, in seconds, and how many answers were no 200."""
    times: dict[str, list[float]] = defaultdict(list)
    errors: list[int] = []
    stop = time.perf_counter() + options.seconds

    def person(number: int) -> None:
        random = np.random.default_rng(number)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while time.perf_counter() < stop:
            shape = shapes[int(random.integers(len(shapes)))]
            asked = [("search", f"/search?id={shape['id']}&top=24")]
            asked.append(("grid", f"/shapes?offset={int(random.integers(max(1, total - 100)))}&limit=100"))
            for _ in range(12):
                one = shapes[int(random.integers(len(shapes)))]
                asked.append(("thumbnail", f"/shapes/{one['id']}/views/0.png?v={one['picture']}"))
            for kind, path in asked:
                begun = time.perf_counter()
                status, _ = ask(port, "GET", path, connection=connection)
                times[kind].append(time.perf_counter() - begun)
                if status != 200:
                    errors.append(status)
            time.sleep(float(random.uniform(0.5, 1.5)))  # a person looks at what came

    def bringer() -> None:
        content = options.upload.read_bytes()
        head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{options.upload.name}"\r\n\r\n'
        body = head.encode() + content + b"\r\n--x--\r\n"
        while time.perf_counter() < stop:
            begun = time.perf_counter()
            status, _ = ask(
                port, "POST", "/search", body, {"Content-Type": "multipart/form-data; boundary=x"}
            )
            times["upload"].append(time.perf_counter() - begun)
            if status != 200:
                errors.append(status)
            time.sleep(1.1)  # 60 a minute are let in

    threads = [threading.Thread(target=person, args=(number,)) for number in range(options.people)]
    if options.upload:
        threads.append(threading.Thread(target=bringer))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, len(errors)


def ask(port, method, path, body=None, headers=None, connection=None):  # type: ignore[no-untyped-def]
    """(status, content) of one request."""
    own = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    own.request(method, path, body, headers or {})
    answer = own.getresponse()
    content = answer.read()
    if connection is None:
        own.close()
    return answer.status, content


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    main()
