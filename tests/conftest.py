"""What many tests share: made shapes on disk, a small library, a tiny network."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from crosshape.settings import NetworkSettings, PrepareSettings

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # tests leave nothing in the home either

TINY = NetworkSettings(k=8, edge_widths=(8, 8, 16), point_width=32, image_width=8, hidden=16)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs something that this machine has not."""
    real = os.environ.get("CROSSHAPE_TEST_DATA")
    for item in items:
        if "real" in item.keywords and not real:
            item.add_marker(pytest.mark.skip(reason="CROSSHAPE_TEST_DATA names no folder of real shapes"))
        if "long" in item.keywords and not os.environ.get("CROSSHAPE_LONG"):
            item.add_marker(pytest.mark.skip(reason="takes many minutes: make long"))
        if "cuda" in item.keywords:
            import torch

            if not torch.cuda.is_available():
                item.add_marker(pytest.mark.skip(reason="no CUDA GPU"))


@pytest.fixture(scope="session")
def real_shapes() -> Path:
    """The folder of unpacked real shapes; tests that use it are marked `real`."""
    return Path(os.environ["CROSSHAPE_TEST_DATA"])


@pytest.fixture(scope="session")
def made_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve made shapes of four classes, as files of mixed formats."""
    from crosshape.shapes.made import make_shape, write_shape

    folder = tmp_path_factory.mktemp("made")
    suffixes = ("obj", "stl", "off")
    for label in ("chair", "mug", "bolt", "table"):
        for number, suffix in enumerate(suffixes):
            path = folder / label / f"{label}_{number}.{suffix}"
            path.parent.mkdir(exist_ok=True)
            write_shape(make_shape(label, number), path)
    return folder


@pytest.fixture(scope="session")
def made_library(made_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """A library of the twelve made shapes: 256 points, 4 views of 32 pixels. Read it; do not write."""
    from crosshape.library.adding import add
    from crosshape.library.library import open_library

    path = tmp_path_factory.mktemp("library") / "made.lance"
    add(made_folder, path, settings=PrepareSettings(points=256, views=4, image_size=32), workers=1)
    return open_library(path)


@pytest.fixture(scope="session")
def embedded_library(made_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """The twelve made shapes, embedded by an untrained tiny model that lies beside as `run`. Do not write."""
    from crosshape.library.adding import add
    from crosshape.library.embedding import embed
    from crosshape.library.library import open_library
    from crosshape.networks.model import untrained_model

    folder = tmp_path_factory.mktemp("embedded")
    settings = PrepareSettings(points=256, views=4, image_size=32)
    library = add(made_folder, folder / "made.lance", settings=settings, workers=1)
    clouds, views = library.points(), library.views()
    untrained_model(TINY, points=128, image_size=32, clouds=clouds, views=views).save(folder / "run")
    embed(folder / "run", library)
    return open_library(library.path)


def learn_parts(run: Path, folder: Path, labels: tuple[str, ...] = ("chair", "mug")) -> Path:
    """A head for the model in `run`, learned from a few made shapes with their parts; returns its folder."""
    import trimesh

    from crosshape.networks.model import load_model
    from crosshape.shapes.layouts import open_layout
    from crosshape.shapes.made import make_shape
    from crosshape.tasks.heads import learn_head, save_head
    from crosshape.tasks.segmentation import HeadSettings, load_part_set

    for label in labels:
        (folder / "labelled" / label).mkdir(parents=True)
        for seed in range(4):
            shape = make_shape(label, seed + 20)
            path = folder / "labelled" / label / f"{seed}.off"
            trimesh.Trimesh(shape.vertices, shape.faces, process=False).export(path)
            lines = []
            for number, name in enumerate(shape.part_names):
                faces = np.flatnonzero(shape.part_of_face == number) + 1
                if len(faces):
                    lines += [name, " ".join(map(str, faces))]
            path.with_name(f"{seed}_labels.txt").write_text("\n".join(lines) + "\n")
    data = load_part_set(open_layout(folder / "labelled"), 256, workers=1)
    settings = HeadSettings(hidden=32, steps=80, dropout=0.2)
    save_head(learn_head(load_model(run), data, settings), folder / "head")
    return folder / "head"


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(7)
