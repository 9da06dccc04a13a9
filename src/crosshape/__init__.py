"""crosshape learns features of 3D shapes with no labels, and puts them to work.

The public names are below, each loaded on first use, so `import crosshape` costs no torch.
"""

from __future__ import annotations

import importlib
import os
import stat
import tempfile
from pathlib import Path
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


def _keep_kernels() -> None:
    """Where compiled kernels can be kept neither beside the code nor in the home (a read-only installation that another
    user runs), let numba keep them in a temporary folder that is this user's alone.
    """
    if "NUMBA_CACHE_DIR" in os.environ or os.access(Path(__file__).parent / "shapes", os.W_OK):
        return
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if os.access(next(folder for folder in (cache, *cache.parents) if folder.exists()), os.W_OK):
        return
    own = os.path.join(tempfile.gettempdir(), f"crosshape-{os.getuid()}")
    try:
        os.mkdir(own, 0o700)
    except FileExistsError:
        facts = os.lstat(own)
        if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
            own = tempfile.mkdtemp(prefix="crosshape-")
    except OSError:
        return
    os.environ["NUMBA_CACHE_DIR"] = own


_keep_kernels()
