"""A model for other programs: ONNX files, checked against it, its safetensors, and a page that says how to use them."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from crosshape.errors import CrosshapeError
from crosshape.networks.graphs import Correspondence, Points
from crosshape.networks.model import CARD, WEIGHTS, Model
from crosshape.settings import FEATURES

PAGE = "README.md"
FILES = ("points.onnx", "images.onnx", "correspondence.onnx", WEIGHTS, CARD, PAGE)
NEEDED = ("onnx", "onnxscript", "onnxruntime")
DIFFERENCE = 1e-3
"""By how much an ONNX file may be off the model. They differ by rounding, which may choose another of two neighbours
that are equally far."""


def export_model(model: Model, folder: str | Path, *, overwrite: bool = False) -> dict[str, float]:
    """Write `FILES` into `folder`, which is the old one or the new one; how far each ONNX file is off (`compare`).

    The folder is a run as well: `load_model` opens it. Raises CrosshapeError where the folder is there already and
    holds anything but an export, where the packages that write ONNX are missing, or where a file does not give what
    the model gives.
    """
    folder = Path(folder)
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise CrosshapeError(f"writing ONNX needs {', '.join(missing)}: pip install {' '.join(missing)}")
    _check_target(folder, overwrite)
    folder = folder.resolve()
    model = copy.deepcopy(model).cpu().eval()
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        new = made / "new"
        new.mkdir()
        difference = _written(model, new)
        model.save(new)
        (new / PAGE).write_text(_page(model, difference), encoding="utf-8")
        old = made / "old"
        try:
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
        except BaseException:  # Ctrl-C between the two as well
            if old.exists() and not folder.exists():
                old.rename(folder)
            raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return difference


def _written(model: Model, folder: Path) -> dict[str, float]:
    """Write the ONNX files; how much each differs from the model. Raises CrosshapeError where that is too much."""
    try:
        for name, network, inputs in _graphs(model):
            _write(network, folder / name, inputs)
        difference = compare(model, folder)
    except (torch.onnx.OnnxExporterError, RuntimeError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CrosshapeError(
            f"torch {torch.__version__} and its onnx packages cannot write this model: {first}. "
            "Another version of them may; nothing was written."
        ) from None
    for name, value in difference.items():
        if not value <= DIFFERENCE:
            raise CrosshapeError(
                f"{name} does not give what the model gives (off by {value:.2g} of what changes from shape "
                "to shape); nothing was written. Another version of torch or onnxscript may do better."
            )
    return difference


def compare(model: Model, folder: Path, seed: int = 0) -> dict[str, float]:
    """How far each ONNX file is off the model, on made shapes and noise: the mean difference over all numbers, as a
    part of how much these change from shape to shape.
    """
    fewest, most = model.settings.k, max(model.point_count, model.settings.k)
    clouds, pictures = _looks(most, model.image_size, seed)
    off: dict[str, float] = {}
    scale: dict[str, float] = {}
    for some, count in ((slice(None), max(fewest, most // 2)), (slice(0, 1), most)):
        with torch.inference_mode():
            points = model.points(torch.from_numpy(clouds[some, :count])).numpy()
            images = model.images(torch.from_numpy(pictures[some])).numpy()
        judge = run_onnx(folder / "correspondence.onnx", images=images, points=points)
        for name, ours, theirs in (
            ("points.onnx", points, run_onnx(folder / "points.onnx", points=clouds[some, :count])),
            ("images.onnx", images, run_onnx(folder / "images.onnx", views=pictures[some])),
            ("correspondence.onnx", model.correspond(images, points), judge),
        ):
            if ours.shape != theirs.shape:
                raise CrosshapeError(f"{name} gives {theirs.shape} where the model gives {ours.shape}.")
            spread = float(np.abs(ours - ours.mean(axis=0)).mean())  # from shape to shape
            scale.setdefault(name, max(spread, 1e-3 * float(np.abs(ours).max()), 1e-6))
            off[name] = float(np.maximum(off.get(name, 0.0), np.abs(ours - theirs).mean() / scale[name]))
    return off


def run_onnx(path: Path, **inputs: np.ndarray) -> np.ndarray:
    """What an ONNX file gives for named inputs, by onnxruntime on this machine's processor."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # it would leave a number and a queue in the home
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


def _looks(count: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Clouds (4, count, 3) float32 and a view of each (4, size, size) uint8: three made shapes, and noise."""
    from crosshape.shapes.made import make_shape
    from crosshape.shapes.surface import sample_surface
    from crosshape.shapes.views import render_mesh

    chance = np.random.default_rng(seed)
    noise = chance.normal(size=(count, 3))
    clouds, pictures = [noise / np.linalg.norm(noise, axis=1).max()], [chance.integers(0, 256, (size, size))]
    for label in ("chair", "mug", "bolt"):
        shape = make_shape(label, seed)
        vertices = shape.vertices.astype(np.float64)
        clouds.append(sample_surface(vertices, shape.faces, count, seed)[0])
        pictures.append(render_mesh(vertices, shape.faces, views=1, size=size).shading[0])
    return np.stack(clouds).astype(np.float32), np.stack(pictures).astype(np.uint8)


Inputs = dict[str, tuple[Tensor, dict[int, Any]]]
"""By name of each input an example, and which of its sizes are free."""


def _graphs(model: Model) -> Iterator[tuple[str, nn.Module, Inputs]]:
    """File, network in encoding, its inputs."""
    free, k = torch.export.Dim, model.settings.k
    cloud = torch.zeros(2, max(k + 1, model.point_count), 3)
    yield (
        "points.onnx",
        Points(model.points),
        {"points": (cloud, {0: free("clouds", min=1), 1: free("count", min=k)})},
    )
    picture = torch.zeros(2, model.image_size, model.image_size, dtype=torch.uint8)
    yield "images.onnx", model.images, {"views": (picture, {0: free("views", min=1)})}
    pair: Inputs = {
        "images": (torch.zeros(2, FEATURES), {0: free("pictures", min=1)}),
        "points": (torch.zeros(3, FEATURES), {0: free("clouds", min=1)}),
    }
    yield "correspondence.onnx", Correspondence(model.correspondence), pair


def _write(network: nn.Module, path: Path, inputs: Inputs) -> None:
    output = "logits" if len(inputs) == 2 else "features"
    with _quiet():
        program = torch.onnx.export(
            network.eval(),
            tuple(example for example, _ in inputs.values()),
            dynamo=True,
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=tuple(free for _, free in inputs.values()),
            verbose=False,
        )
    assert program is not None
    program.save(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch's exporter speaks of its own insides on every channel there is."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _check_target(folder: Path, overwrite: bool) -> None:
    """Refuse what an export must not replace: a file, another folder than an export, or one without being told."""
    if not folder.exists() and not folder.is_symlink():
        return
    if folder.is_symlink():
        raise CrosshapeError(f"{folder} is a link. Give the name of a new folder.")
    if not folder.is_dir():
        raise CrosshapeError(f"{folder} is no folder. Give the name of a new one.")
    if folder.resolve() == Path.cwd() or folder.is_mount():
        raise CrosshapeError(f"{folder} cannot be replaced from here. Give the name of a new folder.")
    there = {path.name for path in folder.iterdir()}
    if not there:
        return
    if not there <= set(FILES) or "points.onnx" not in there:
        raise CrosshapeError(
            f"{folder} holds other files than an export does. Give the name of a new folder."
        )
    if not overwrite:
        raise CrosshapeError(f"{folder} is there already. Add --overwrite to replace it.")


def _page(model: Model, difference: dict[str, float]) -> str:
    """README.md of the folder, with the facts that model hubs read at its top."""
    from jinja2 import Environment, StrictUndefined

    card = model.card
    facts = [
        f"- {name.replace('_', ' ')}: {card[name]}"
        for name in ("trained_on", "epochs", "seed", "limits")
        if name in card
    ]
    if "license" in card:
        facts.append(f"- licence: {card['license']}")
    values = {
        "name": card.get("name") or Path(model.source or "model").name,
        "fingerprint": model.fingerprint,
        "points": model.point_count,
        "k": model.settings.k,
        "size": model.image_size,
        "facts": "\n".join(facts) or "- nothing is said on its card",
        "difference": ", ".join(f"{name} {value:.0e}" for name, value in difference.items()),
    }
    source = resources.files("crosshape").joinpath("networks/export.md").read_text(encoding="utf-8")
    markdown = Environment(undefined=StrictUndefined, keep_trailing_newline=True)  # nothing is escaped
    return markdown.from_string(source).render(values)
