"""A model for other programs: ONNX files, checked against it, its safetensors, and a page that says how to use them."""

from __future__ import annotations

import contextlib
import io
import logging
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
AGREE = 0.999
"""Least cosine between a feature of the model and the same of its ONNX file. They differ by rounding, which may
choose another of two neighbours that are equally far."""


def export_model(model: Model, folder: str | Path, *, overwrite: bool = False) -> dict[str, float]:
    """Write `FILES` into `folder`, which appears whole or not at all; the least cosine by which each ONNX file agrees.

    The folder is a run as well: `load_model` opens it. Raises CrosshapeError where the folder is there already and
    holds anything but an export, where the packages that write ONNX are missing, or where a file does not give what
    the model gives.
    """
    folder = Path(folder)
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise CrosshapeError(
            f"writing ONNX needs {', '.join(missing)}: pip install 'crosshape[export]' (or {' '.join(missing)})"
        )
    _check_target(folder, overwrite)
    model = model.cpu().eval()
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        made.chmod(0o755)
        for name, network, inputs in _graphs(model):
            _write(network, made / name, inputs)
        agreement = compare(model, made)
        for name, cosine in agreement.items():
            if not cosine >= AGREE:
                raise CrosshapeError(
                    f"{name} does not give what the model gives (cosine {cosine:.4f}); nothing was written. "
                    "Another version of torch or onnxscript may do better."
                )
        model.save(made)
        (made / PAGE).write_text(_page(model, agreement), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        made.rename(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return agreement


def compare(model: Model, folder: Path, seed: int = 0) -> dict[str, float]:
    """The least cosine of model and ONNX file on made inputs, of several sizes of batch, by file."""
    chance = np.random.default_rng(seed)
    least: dict[str, float] = {}
    for batch, count in ((1, model.point_count), (3, max(model.settings.k, model.point_count // 2))):
        clouds = chance.normal(size=(batch, count, 3)).astype(np.float32)
        clouds /= np.linalg.norm(clouds, axis=2).max(axis=1)[:, None, None]
        pictures = chance.integers(0, 256, (batch, model.image_size, model.image_size), np.uint8)
        pictures[:, : model.image_size // 3] = 255
        with torch.inference_mode():
            points = model.points(torch.from_numpy(clouds)).numpy()
            images = model.images(torch.from_numpy(pictures)).numpy()
        found = {
            "points.onnx": (points, run_onnx(folder / "points.onnx", points=clouds)),
            "images.onnx": (images, run_onnx(folder / "images.onnx", views=pictures)),
            "correspondence.onnx": (
                model.correspond(images, points),
                run_onnx(folder / "correspondence.onnx", images=images, points=points),
            ),
        }
        for name, (ours, theirs) in found.items():
            if ours.shape != theirs.shape:
                raise CrosshapeError(f"{name} gives {theirs.shape} where the model gives {ours.shape}.")
            least[name] = min(least.get(name, 1.0), _cosine(ours, theirs))
    return least


def run_onnx(path: Path, **inputs: np.ndarray) -> np.ndarray:
    """What an ONNX file gives for named inputs, by onnxruntime on this machine's processor."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, inputs)[0]


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


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return float(((a * b).sum(axis=1) / np.maximum(lengths, 1e-12)).min())


def _check_target(folder: Path, overwrite: bool) -> None:
    """Refuse what an export must not replace: a file, another folder than an export, or one without being told."""
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir() or folder.is_symlink():
        raise CrosshapeError(f"{folder} is no folder. Give the name of a new one.")
    there = {path.name for path in folder.iterdir()}
    if not there:
        return
    if not there <= set(FILES) or "points.onnx" not in there:
        raise CrosshapeError(
            f"{folder} holds other files than an export does. Give the name of a new folder."
        )
    if not overwrite:
        raise CrosshapeError(f"{folder} is there already. Add --overwrite to replace it.")


def _page(model: Model, agreement: dict[str, float]) -> str:
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
        "agreement": ", ".join(f"{name} {cosine:.6f}" for name, cosine in agreement.items()),
    }
    source = resources.files("crosshape").joinpath("networks/export.md").read_text(encoding="utf-8")
    page = Environment(undefined=StrictUndefined, keep_trailing_newline=True).from_string(
        source
    )  # Markdown: not escaped
    return page.render(values)
