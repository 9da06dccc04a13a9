"""How fast crosshape is on this machine, each part beside its plain counterpart.

crosshape benchmark
crosshape benchmark --part points --threads 1
crosshape benchmark --quick --chart speed.png
crosshape benchmark --scaling

The plain counterparts are the textbook forms: DGCNN with features per edge, ResNet-18 in float32, one mesh at
a time through Open3D, pyrender or trimesh with embree (pip install open3d), batches read from
picture files. Both sides of a case run in processes of their own and take turns, so that other work on the
machine slows both; medians are shown, with half of the range as spread. Memory is the peak of each process.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def arguments(parser: argparse.ArgumentParser) -> None:
    names = ("prepare", "points", "views", "train", "encode", "search", "all")
    parser.add_argument("--part", choices=names, default="all", help="what to measure (default all)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N, of the networks (default cpu)")
    parser.add_argument("--threads", type=int, metavar="N", help="threads of each side (default: one a core)")
    parser.add_argument("--repeats", type=int, metavar="N", help="turns of each side (default 2 to 5)")
    parser.add_argument("--quick", action="store_true", help="small sizes, about a minute: does it run?")
    parser.add_argument("--shapes", metavar="FOLDER", help="measure `add` on these files, not on made ones")
    parser.add_argument("--scaling", action="store_true", help="how cost grows with points, k, batch, faces")
    parser.add_argument("--chart", metavar="FILE", help="write a chart of the ratios (PNG or SVG)")
    parser.add_argument("--json", action="store_true", help="one object a line: the machine, then the cases")


def run(options: argparse.Namespace) -> int:
    import os

    from crosshape.benchmark.measuring import machine
    from crosshape.console import print_json, say
    from crosshape.errors import UsageError
    from crosshape.files import check_place
    from crosshape.networks.model import choose_device

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = cores if options.threads is None else options.threads
    if threads < 1:
        raise UsageError(f"--threads {threads}: it must be at least 1.")
    if options.repeats is not None and options.repeats < 1:
        raise UsageError(f"--repeats {options.repeats}: it must be at least 1.")
    if options.shapes and not Path(options.shapes).is_dir():
        raise UsageError(f"--shapes {options.shapes}: there is no such folder.")
    if options.chart and Path(options.chart).suffix not in (".png", ".svg"):
        raise UsageError(f"--chart {options.chart}: its name must end in .png or .svg.")
    if options.chart and options.scaling:
        raise UsageError("--chart draws ratios and --scaling has none; give one of them.")
    if options.chart:
        check_place(options.chart)
    for name in ("part", "repeats", "shapes", "device"):
        given = getattr(options, name)
        if options.scaling and given not in (None, "all", "cpu"):
            raise UsageError(
                f"--{name} {given} says nothing to --scaling, which measures its own cases on the processor."
            )
    device = str(choose_device(options.device))
    facts = machine(threads, device)
    if options.json:
        print_json(facts)
    else:
        versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
        print(f"{facts['cpu']}, {facts['cores']} cores, {threads} threads, device {device}")
        print(f"{facts['machine']}, Python {facts['python']}, {versions}, {facts['date']}")
        if facts["load"] is not None and facts["load"] > 0.5 * cores:
            say(f"Other work is running here (load {facts['load']}): expect a wide spread.")
    return scaling(options, threads) if options.scaling else parts(options, threads, device, facts)


def parts(options: argparse.Namespace, threads: int, device: str, facts: dict[str, Any]) -> int:
    """Measure and print the chosen parts."""
    from dataclasses import asdict

    from crosshape.benchmark.measuring import Outcome
    from crosshape.benchmark.parts import PARTS, run_part
    from crosshape.console import print_json, print_table, say

    shapes = Path(options.shapes) if options.shapes else None
    outcomes: list[Outcome] = []
    for part in PARTS if options.part == "all" else (options.part,):
        if not options.json:
            say(f"measuring {part} ...")
        found = run_part(part, options.quick, shapes, threads, device, options.repeats)
        if options.json:
            for row in found:
                print_json(asdict(row))
        outcomes += found
    if not options.json:
        head = ["part", "case", "plain", "ours", "unit", "ratio", "spread", "MB plain", "MB ours"]
        print_table(head, [_row(row) for row in outcomes])
        for note in sorted({row.note for row in outcomes if row.note}):
            say(note[0].upper() + note[1:] + ".")
    if options.chart:
        from crosshape.benchmark.chart import write_chart

        title = f"{facts['cpu'].split(' (')[0]}, {threads} threads, {facts['date']}"
        write_chart(outcomes, Path(options.chart), title)
        say(f"chart: {options.chart}")
    return 0


def scaling(options: argparse.Namespace, threads: int) -> int:
    """Measure and print the table of growth."""
    from dataclasses import asdict

    from crosshape.benchmark.scaling import grow
    from crosshape.console import print_json, print_table

    rows = grow(options.quick, threads)
    if options.json:
        for row in rows:
            print_json(asdict(row))
        return 0
    cells = [
        [row.what, row.size, f"{1000 * row.seconds:.2f}", "" if row.growth is None else f"{row.growth:.2f}",
         row.law]
        for row in rows
    ]  # fmt: skip
    print_table(["what grows", "size", "ms an item", "exponent", "expected"], cells)
    return 0


def _row(row: Any) -> list[Any]:
    def number(value: float | None, form: str = ".3g") -> str:
        return "-" if value is None else f"{value:,{'.0f' if value >= 100 else form}}"

    spread = max(row.plain_spread or 0, row.ours_spread or 0)
    memory = [number(row.plain_mb, ".0f"), number(row.ours_mb, ".0f")]
    ratio = "-" if row.ratio is None else f"{row.ratio:.2f}"
    return [
        row.part,
        row.case,
        number(row.plain),
        number(row.ours),
        row.unit,
        ratio,
        f"{spread:.0%}",
        *memory,
    ]
