"""What the cards of the models that come along say, read without PyTorch."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from crosshape.files import parse_json

WEIGHTS = Path(__file__).resolve().parent / "weights"


@cache
def cards() -> dict[str, dict[str, Any]]:
    """The cards of the models that come along, by name."""
    return {path.parent.name: parse_json(path.read_bytes()) for path in sorted(WEIGHTS.glob("*/card.json"))}


def model_words(fingerprint: str) -> str:
    """A model as a user knows it: "modelnet40 (6bd68949)" where it came along, else its fingerprint."""
    names = [name for name, card in cards().items() if card["fingerprint"] == fingerprint]
    return f"{names[0]} ({fingerprint})" if names else fingerprint


def first_model(image_size: int) -> str | None:
    """The name of a model that came along and for which views of so many pixels are large enough, if there is one."""
    return next((name for name, card in cards().items() if card["model"]["image_size"] <= image_size), None)
