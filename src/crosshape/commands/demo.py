"""Make shapes, learn for a few minutes, show what was learned; needs no data.

    crosshape demo
    crosshape demo my-demo --minutes 15

Everything lands in FOLDER (crosshape-demo if not given): the shapes, two libraries, the run, and report.html,
a page to open in a browser. A demo that was stopped goes on where it was when it is started again.
"""

from __future__ import annotations

import argparse
import dataclasses


def arguments(parser: argparse.ArgumentParser) -> None:
    from crosshape.demo import DemoSettings

    default = DemoSettings()
    parser.add_argument(
        "folder",
        metavar="FOLDER",
        nargs="?",
        default="crosshape-demo",
        help="made by the demo (default crosshape-demo)",
    )
    for name, kind, text in (
        ("seen", int, "shapes of every kind to learn from"),
        ("new", int, "shapes of every kind to measure with"),
        ("minutes", float, "how long to train"),
        ("seed", int, "seed of shapes, weights and augmentation"),
    ):
        value = getattr(default, name)
        parser.add_argument(
            f"--{name}", type=kind, default=value, metavar="N", help=f"{text} (default {value})"
        )
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    parser.add_argument("--overwrite", action="store_true", help="make a demo anew that FOLDER already holds")
    parser.add_argument("--json", action="store_true", help="one object a figure instead of a table")


def run(options: argparse.Namespace) -> int:
    from pathlib import Path

    from crosshape.console import print_json, print_table, printable, say
    from crosshape.demo import REPORT, DemoSettings, run_demo

    names = [field.name for field in dataclasses.fields(DemoSettings)]
    settings = DemoSettings(**{name: getattr(options, name) for name in names})
    report = run_demo(options.folder, settings, device=options.device, overwrite=options.overwrite)
    if options.json:
        for figure in report.figures:
            print_json(
                {
                    "figure": figure.name,
                    "measure": figure.measure,
                    **dict(zip(report.sources, figure.values, strict=True)),
                }
            )
    else:
        rows = [(figure.name, figure.measure, *figure.values) for figure in report.figures]
        print_table(("", f"{len(report.names)} new shapes", *report.sources), rows)
    say(f"The page about it: {printable(str(Path(options.folder) / REPORT))}")
    return 1 if report.skipped else 0
