"""crosshape learns features of 3D shapes with no labels, and puts them to work.

The public names are below, each loaded on first use, so `import crosshape` costs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PLACES = {
    "add": "crosshape.library.adding",
    "open_library": "crosshape.library.library",
    "Library": "crosshape.library.library",
    "train": "crosshape.learning.training",
    "embed": "crosshape.library.embedding",
    "Part": "crosshape.library.parts",
    "load": "crosshape.networks.model:load_model",
    "Model": "crosshape.networks.model",
    "CrosshapeError": "crosshape.errors",
    "UnreadableShape": "crosshape.errors",
    "PrepareSettings": "crosshape.settings",
    "NetworkSettings": "crosshape.settings",
    "TrainSettings": "crosshape.settings",
    "RECIPES": "crosshape.settings",
}

__all__ = [*_PLACES, "__version__"]

if TYPE_CHECKING:
    from crosshape.errors import CrosshapeError as CrosshapeError
    from crosshape.errors import UnreadableShape as UnreadableShape
    from crosshape.settings import RECIPES as RECIPES
    from crosshape.settings import NetworkSettings as NetworkSettings
    from crosshape.settings import PrepareSettings as PrepareSettings
    from crosshape.settings import TrainSettings as TrainSettings


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        module, _, attribute = _PLACES[name].partition(":")
        return getattr(importlib.import_module(module), attribute or name)
    raise AttributeError(f"module 'crosshape' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
