"""The figures of docs/speed.md: python results/speed/measure.py --shapes FOLDER [--parts points,encode] [--scaling]

Runs `crosshape benchmark` part by part and writes speed.json (everything), speed.md (the table) and speed.png
(the chart) beside this file; parts that are not measured again are kept from speed.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from crosshape.benchmark.chart import write_chart
from crosshape.benchmark.measuring import Outcome
from crosshape.benchmark.parts import PARTS

HERE = Path(__file__).parent
KEPT = HERE / "speed.json"


def command(*words: str) -> list[dict]:
    code = (
        "import sys; from crosshape.cli import main; sys.exit(main(['benchmark', '--json', *sys.argv[1:]]))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def write_table(kept: dict) -> None:
    lines = []
    for facts in {
        json.dumps(part["machine"], sort_keys=True): part["machine"] for part in kept.values()
    }.values():
        versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
        named = ", ".join(name for name, part in kept.items() if part["machine"] == facts)
        lines.append(
            f"{named}: {facts['cpu']}, {facts['cores']} cores, {facts['threads']} threads, load at the start "
            f"{facts['load']}; {facts['machine']}, Python {facts['python']}, {versions}; {facts['date']}.\n"
        )
    lines += [
        "| part | case | plain | ours | unit | ratio | spread plain, ours | MB plain | MB ours | memory |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]

    def cell(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, ",.0f" if value >= 100 else form)

    for row in (Outcome(**row) for part in kept if part != "scaling" for row in kept[part]["rows"]):
        cells = [row.part, row.case, cell(row.plain, ",.3g"), cell(row.ours, ",.3g"), row.unit]
        cells += [cell(row.ratio, ".2f"), f"{cell(row.plain_spread, '.0%')}, {cell(row.ours_spread, '.0%')}"]
        cells += [cell(row.plain_mb, ",.0f"), cell(row.ours_mb, ",.0f"), cell(row.memory_ratio, ".2f")]
        lines.append(f"| {' | '.join(cells)} |")
    notes = {
        f"{row['case']}: {row['note']}."
        for p in kept
        if p != "scaling"
        for row in kept[p]["rows"]
        if row["note"]
    }
    lines += ["", *sorted(notes)]
    if "scaling" in kept:
        lines += ["", "| what grows | size | ms an item | exponent | expected |", "|---|---|---|---|---|"]
        for row in kept["scaling"]["rows"]:
            growth = cell(row["growth"], ".2f")
            lines.append(
                f"| {row['what']} | {row['size']:,} | {1000 * row['seconds']:.2f} | {growth} | {row['law']} |"
            )
    (HERE / "speed.md").write_text("\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shapes", help="folder of real shapes for the part `prepare`")
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--scaling", action="store_true", help="the table of growth, beside the parts")
    parser.add_argument("--threads", help="as in crosshape benchmark")
    parser.add_argument("--repeats", help="as in crosshape benchmark")
    options = parser.parse_args()
    given = [
        word
        for name in ("threads", "repeats")
        if (value := getattr(options, name))
        for word in (f"--{name}", value)
    ]
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for part in [p for p in options.parts.split(",") if p]:
        words = ["--part", part, *given, *(["--shapes", options.shapes] if options.shapes else [])]
        machine, *rows = command(*words)
        kept[part] = {"machine": machine, "rows": rows}
        KEPT.write_text(json.dumps(kept, indent=1) + "\n")
    if options.scaling:
        machine, *rows = command("--scaling", *(["--threads", options.threads] if options.threads else []))
        kept["scaling"] = {"machine": machine, "rows": rows}
        KEPT.write_text(json.dumps(kept, indent=1) + "\n")
    write_table(kept)
    rows = [Outcome(**row) for part in PARTS if part in kept for row in kept[part]["rows"]]
    facts = next(iter(kept.values()))["machine"]
    write_chart(rows, HERE / "speed.png", f"{facts['cpu']}, {facts['cores']} cores, {facts['date']}")


if __name__ == "__main__":
    main()
