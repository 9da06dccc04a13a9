"""Parts of shapes in colours, by the head that `crosshape serve --head` was given."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crosshape.errors import CrosshapeError, UsageError
from crosshape.page.glb import write_glb
from crosshape.page.problems import Problem

if TYPE_CHECKING:
    from crosshape.networks.model import Model
    from crosshape.shapes.files import Shape
    from crosshape.tasks.heads import LearnedHead, Parts


class Segmenter:
    """The head in a folder, or none; it is read again when the library was embedded by another model."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._head: tuple[str, LearnedHead] | None = None

    @property
    def classes(self) -> dict[str, tuple[str, ...]]:
        """Class -> names of its parts, as the head that was read last knows them; empty where there is none."""
        head = self._head
        return dict(zip(head[1].classes, head[1].parts, strict=True)) if head else {}

    def asked(self, category: str | None) -> None:
        """Raises Problem where there is no head, or it does not know the class."""
        if self.folder is None:
            words = (
                "This server has no head that knows parts. Learn one: crosshape segment RUN --learn DATA --head HEAD; "
                "then start the server with --head HEAD."
            )
            raise Problem(409, "no-head", words)
        if category is not None and category not in self.classes:
            known = ", ".join(self.classes)
            raise Problem(422, "unknown-class", f"The head knows no class '{category}'; it knows {known}.")

    def head(self, model: Model) -> LearnedHead:
        """The head, for this model. Raises Problem where it is broken or of another model."""
        from crosshape.tasks.heads import load_head

        self.asked(None)
        with self._lock:
            if self._head is None or self._head[0] != model.fingerprint:
                try:
                    self._head = (model.fingerprint, load_head(str(self.folder), model))
                except CrosshapeError as error:
                    raise Problem(409, "head-does-not-fit", str(error)) from None
            return self._head[1]

    def paint(
        self, model: Model, shape: Shape, category: str | None, centre: list[float], told: dict[str, Any]
    ) -> bytes:
        """A shape as GLB in the colours of its parts; `told` and the legend are its extras. Raises Problem."""
        from crosshape.tasks.heads import segment_shape

        head = self.head(model)
        try:
            found = segment_shape(model, head, shape, category)
        except UsageError as error:
            raise Problem(422, "unknown-class", f"{error}.") from None
        extras = {**told, "class": found.category, "told": category is None, "parts": legend(found)}
        return coloured(found, centre, extras)


def legend(found: Parts) -> list[dict[str, Any]]:
    """The parts by name: their colour as #rrggbb, and their share of the area, or of the points of a cloud."""
    from crosshape.tasks.heads import colours

    corners = found.shape.vertices[found.shape.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    shares = np.bincount(found.numbers, None if found.shape.is_cloud else area, len(found.names))
    shares = shares / shares.sum()
    return [
        {"name": name, "colour": f"#{colour.tobytes().hex()}", "share": round(float(share), 4)}
        for name, colour, share in zip(found.names, colours(len(found.names)), shares, strict=True)
    ]


def coloured(found: Parts, centre: list[float], extras: dict[str, Any]) -> bytes:
    """Parts on a shape -> GLB whose vertices have the colours; where two parts meet there is one for each."""
    from crosshape.tasks.heads import colours

    shape, paint, count = found.shape, colours(len(found.names)), len(found.names)
    if shape.is_cloud:
        return write_glb(
            shape.vertices,
            None,
            centre=centre,
            normals=shape.normals,
            colours=paint[found.numbers],
            extras=extras,
        )
    corners, faces = np.unique(shape.faces * count + found.numbers[:, None], return_inverse=True)
    return write_glb(
        shape.vertices[corners // count],
        faces.reshape(-1, 3),
        centre=centre,
        colours=paint[corners % count],
        extras=extras,
    )


def extras_of(glb: bytes) -> dict[str, Any]:
    """What stands in the asset's extras of a GLB that `write_glb` made."""
    length = int.from_bytes(glb[12:16], "little")
    return json.loads(glb[20 : 20 + length])["asset"]["extras"]
