"""What is this run, library or file?

crosshape info parts.lance      or s3://bucket/parts.lance
crosshape info runs/parts
crosshape info bracket.stl
crosshape info modelnet40       a model that comes with crosshape
crosshape info heads/parts      a head that colours parts
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from crosshape.places import Address


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", metavar="X", help="a library, a run or the name of a model, or a shape file")
    parser.add_argument("--json", action="store_true", help="one object, with its kind first")


def run(options: argparse.Namespace) -> int:
    from crosshape.console import print_json, printable
    from crosshape.places import located
    from crosshape.shipped import model_words

    place = located(options.what)
    facts = about_path(place) if isinstance(place, Path) else about_library(place)
    if options.json:
        print_json(facts)
        return 0
    if facts["kind"] == "library":
        facts["features"] = {model_words(model): count for model, count in facts["features"].items()}
    width = max(map(len, facts))
    for name, value in facts.items():
        if name == "validation" and isinstance(value, dict) and isinstance(value.get("figures"), list):
            print(f"{name:<{width}}  {printable(_text({k: v for k, v in value.items() if k != 'figures'}))}")
            for figure in value["figures"]:
                print(f"{'':<{width}}  {printable(_text(figure))}")
            continue
        text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else _text(value)
        print(f"{name.replace('_', ' '):<{width}}  {printable(text)}")
    return 0


def about_path(path: Path) -> dict[str, Any]:
    """What lies at a path, or the model of this name. Raises CrosshapeError where nothing does, or is damaged."""
    from crosshape.errors import CrosshapeError

    ours = Path(__file__).resolve().parent.parent / "weights" / path.name
    taken = any((path / name).exists() for name in ("card.json", "head.json", "run.toml", "_versions"))
    if not taken and len(path.parts) == 1 and (ours / "card.json").is_file():
        path = ours  # also where data lies in a folder of that name
    if not path.exists():
        known = ", ".join(
            sorted(folder.name for folder in ours.parent.iterdir() if (folder / "card.json").is_file())
        )
        raise CrosshapeError(f"{path} does not exist. Models that come with crosshape: {known}.")
    if (path / "head.json").is_file():
        return about_head(path)
    if (path / "card.json").is_file():
        return about_run(path)
    if any((path / name).is_file() for name in ("run.toml", "model.safetensors")):
        raise CrosshapeError(f"{path} is a run without its card.json: not saved yet, or incomplete.")
    return about_library(path) if path.is_dir() else about_file(path)


def about_library(path: Path | Address) -> dict[str, Any]:
    """What a library holds, and which features it has. Raises CrosshapeError where it is none."""
    from collections import Counter

    from crosshape.library.library import open_library

    library = open_library(path)
    settings = library.settings
    facts = library.facts()
    if isinstance(path, Path):
        size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    else:
        fragments = library.dataset.get_fragments()
        size = sum(file.file_size_bytes or 0 for one in fragments for file in one.metadata.files)
    return {
        "kind": "library",
        "path": str(path),
        "shapes": len(library),
        "folders": len(set(library.labels() or [])),
        "formats": dict(Counter(facts["format"].to_pylist()).most_common()),
        "points": settings.points,
        "views": settings.views,
        "image_size": settings.image_size,
        "supersample": settings.supersample,
        "up": settings.up,
        "features": {model or "none": count for model, count in library.models().most_common()},
        "tags": dict(Counter(tag for some in library.tags().values() for tag in some).most_common()),
        "with_notes": sum(bool(notes) for notes in facts["notes"].to_pylist()),
        "version": library.version,
        "bytes_on_disk": size,
    }


def about_run(path: Path) -> dict[str, Any]:
    """What the card of a run says. Raises CrosshapeError where it cannot be read."""
    from crosshape.errors import CrosshapeError, command
    from crosshape.files import parse_json
    from crosshape.learning.run import unfinished

    try:
        card = parse_json((path / "card.json").read_bytes())
        if not isinstance(card, dict):
            raise ValueError("no object")
    except ValueError as error:
        raise CrosshapeError(f"{path / 'card.json'} is not the card of a run: {error}.") from None
    facts = {"kind": "run", "path": str(path), **card}
    if (state := unfinished(path)) is not None:
        facts["state"] = f"{state}; go on: {command('train', 'LIBRARY', path, '--resume')}"
    return facts


def about_head(path: Path) -> dict[str, Any]:
    """What the card of a head says. Raises CrosshapeError where it cannot be read."""
    from crosshape.errors import CrosshapeError
    from crosshape.files import parse_json

    try:
        card = parse_json((path / "head.json").read_bytes())
        return {
            "kind": "head",
            "path": str(path),
            "model": str(card["model"]),
            "classes": {name: [str(part) for part in parts] for name, parts in card["classes"].items()},
            "learned_from": dict(card["learned_from"]),
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise CrosshapeError(f"{path / 'head.json'} is not the card of a head. Learn it again.") from None


def about_file(path: Path) -> dict[str, Any]:
    """What is in a shape file, read in a guarded child. Raises CrosshapeError where no shape is in it."""
    from crosshape.errors import CrosshapeError, UnreadableShape
    from crosshape.shapes.guard import Guard

    try:
        with Guard(1) as guard:
            return guard.call(file_facts, str(path))
    except UnreadableShape as error:
        raise CrosshapeError(f"{path} gives no shape: {error.reason}.") from None


def file_facts(path: str) -> dict[str, Any]:
    """The facts of one shape; runs in a guarded child. Raises UnreadableShape."""
    from crosshape.shapes.files import load_shape

    shape = load_shape(path)
    low, high = shape.vertices.min(0), shape.vertices.max(0)
    return {
        "kind": "point cloud" if shape.is_cloud else "mesh",
        "path": path,
        "format": shape.format,
        "bytes": shape.bytes,
        "faces": len(shape.faces),
        "vertices": len(shape.vertices),
        "extents": [float(value) for value in high - low],
        "notes": list(shape.notes),
        "content_hash": shape.content_hash,
    }


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_text(item)}" for name, item in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(map(_text, value)) or "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
