"""What an evaluation leaves in a folder: results.json, from which it can be repeated, .md, .tex, .html and pictures."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from crosshape import __version__
from crosshape.files import write_whole
from crosshape.tasks.tables import latex, markdown, published_markdown

if TYPE_CHECKING:
    from crosshape.networks.model import Model
    from crosshape.shapes.layouts import Layout
    from crosshape.tasks.evaluation import Row
    from crosshape.tasks.labelled import LabelledSet
    from crosshape.tasks.segmentation import HeadSettings, PartSet


def facts(
    layout: Layout,
    data: LabelledSet | None,
    parts: PartSet | None,
    model: Model,
    *,
    title: str,
    command: str,
    seconds: float,
    left_out: Sequence[str],
    fifth: int,
    head: HeadSettings,
) -> dict[str, Any]:
    """What must be known to repeat it: command, version, model, date, machine, data."""
    split = data.split(0) if data is not None else layout
    about: dict[str, Any] = {
        "title": title,
        "command": command,
        "version": __version__,
        "model": {"fingerprint": model.fingerprint, "card": model.card},
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "seconds": round(seconds, 1),
        "machine": {
            "system": f"{platform.system()} {platform.machine()}",
            "processor": processor(),
            "threads": torch.get_num_threads(),
            "device": str(model.device),
            "python": platform.python_version(),
            "torch": torch.__version__,
        },
        "data": {
            "note": split.note,
            "layout": layout.name,
            "variant": layout.variant,
            "fingerprint": layout.fingerprint,
            "classes": layout.classes,
            "warnings": split.warnings,
            "counts": layout.counts,
        },
        "left_out": left_out,
    }
    if data is not None:
        about["data"] |= {
            "fifth": data.fifth,
            "splatted": data.splatted,
            "names": data.names,
            "labels": data.labels,
            "skipped": data.skipped,
        }
    if parts is not None:
        about["parts"] = {
            "shapes": len(parts.items),
            "points": int(parts.points.shape[1]),
            "tested": int(parts.split(fifth, 0).sum()),
            "fifth": None if layout.has_test else fifth,
            "head": asdict(head),
            "skipped": parts.skipped,
        }
    return about


def processor() -> str:
    """The processor's name where the system tells it, else its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (named + [platform.processor(), platform.machine()])[0]


def write(
    folder: Path,
    about: dict[str, Any],
    rows: list[Row],
    layout: Layout,
    data: LabelledSet | None,
    parts: PartSet | None,
) -> list[str]:
    """results.json, .md and .tex in a new folder, which appears whole, then .html and pictures/*.png beside them.

    about: from `facts`. Returns the names of the pictures.
    """
    from crosshape.tasks.drawing import write_pictures
    from crosshape.tasks.page import results_page
    from crosshape.tasks.shown import shown

    kept = [{k: v for k, v in row.detail.items() if k != "guesses"} for row in rows]
    record = about | {"rows": [{**row.json(), "detail": d} for row, d in zip(rows, kept, strict=True)]}
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _tables(made, record, rows, layout)
        made.rename(folder)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise
    found = shown(rows, data, parts)
    page = results_page(about, rows, found, layout, data)
    write_whole(folder / "results.html", page.encode())
    return write_pictures(folder / "pictures", found, data)


def _tables(made: Path, record: dict[str, Any], rows: list[Row], layout: Layout) -> None:
    os.chmod(made, 0o755)
    (made / "results.json").write_text(json.dumps(plain(record), indent=1) + "\n", encoding="utf-8")
    text = f"`{record['command']}`\n\n{record['data']['note']}. "
    if record["data"].get("splatted"):
        text += f"The views of {record['data']['splatted']:,} shapes are splats of their points. "
    text += f"Model {record['model']['fingerprint']}, {record['date']}, "
    text += f"{record['machine']['device']}, {sys.platform}.\n\n"
    (made / "results.md").write_text(
        text + markdown(rows) + "\n" + published_markdown(layout), encoding="utf-8"
    )
    (made / "results.tex").write_text(latex(rows), encoding="utf-8")


def plain(value: Any) -> Any:
    """Arrays as lists, NaN as null, keys as text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return value if value is None or isinstance(value, str | int | bool) else str(value)
