"""Features beside the shapes: only what this model has not embedded yet, in few commits."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crosshape.errors import CrosshapeError, command
from crosshape.library.library import Library, open_library
from crosshape.library.parts import parse_part

if TYPE_CHECKING:
    from crosshape.console import Progress
    from crosshape.library.parts import Part
    from crosshape.networks.model import Model

COMMIT = 8192
"""Shapes whose features are committed at once: a library of fewer goes from old to new in one step."""

STEP = 64
"""Shapes that are read and encoded at once."""


def embed(
    model: Model | str | os.PathLike[str],
    library: Library | str | os.PathLike[str],
    *,
    device: str = "auto",
    part: Part | str | None = None,
    progress: Callable[[str, int], Progress] | None = None,
) -> int:
    """Write the model's features of every shape that has none of it yet; how many these were.

    model: a Model, or the folder of a run, which is loaded to `device`. `part`, "3/8" or a Part, takes the third of
    eight parts of the shapes alone, so that several processes embed one library together. Shapes that are removed
    meanwhile are passed over; those that change while they are encoded are left to the next run. Raises CrosshapeError
    where a feature is not finite. Stopped by Ctrl-C it writes what is ready, unless other features would be half
    replaced.
    """
    if not isinstance(library, Library):
        library = open_library(library)
    library.refresh()
    encoder = _loaded(model, device) if isinstance(model, str | os.PathLike) else model
    if not len(library):
        raise CrosshapeError(
            f"{library.path} holds no shapes. Add some: {command('add', 'SHAPES', library.path)}"
        )
    fingerprint = encoder.fingerprint
    library.remember_model(fingerprint, getattr(encoder, "source", None))
    share = parse_part(part)
    names = library.without_features(fingerprint, share.places(len(library)) if share else None)
    bar = progress("embedding", len(names)) if progress and names else None
    written = 0
    fresh = set(library.models()) <= {None, fingerprint}
    try:
        while names:
            some, names = names[:COMMIT], names[COMMIT:]
            points, views = [], []
            try:
                for first in range(0, len(some), STEP):
                    step = some[first : first + STEP]
                    found = encoder.encode_points(library.points(step))
                    views.append(encoder.encode_views(library.views(step, size=encoder.image_size)))
                    points.append(found)
                    if bar:
                        bar.advance(len(step))
            except KeyboardInterrupt:
                if fresh and points:
                    ready = [np.concatenate(part[: len(points)]) for part in (points, views)]
                    library.write_features(fingerprint, some[: len(ready[0])], *ready)
                raise
            written += library.write_features(
                fingerprint, some, np.concatenate(points), np.concatenate(views)
            )
            if names:  # without those that others removed or embedded meanwhile
                left = set(library.without_features(fingerprint))
                names = [name for name in names if name in left]
    finally:
        if bar:
            bar.close()
    return written


def _loaded(run: str | os.PathLike[str], device: str) -> Model:
    from crosshape.networks.model import load_model

    return load_model(Path(run), device=device)
