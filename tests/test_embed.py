"""Embedding a library, with a model that costs nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_library import SETTINGS, fill

from crosshape.cli import main
from crosshape.errors import CrosshapeError
from crosshape.library import embedding
from crosshape.library.embedding import embed
from crosshape.library.library import Library, create_library, open_library


class Stub:
    """Features that say which arrays they were made from."""

    image_size = 4

    def __init__(self, fingerprint: str, scale: float = 1.0) -> None:
        self.fingerprint, self.scale = fingerprint, scale
        self.seen = 0

    def encode_points(self, points: np.ndarray) -> np.ndarray:
        self.seen += len(points)
        return self.scale * np.resize(points.reshape(len(points), -1), (512, len(points))).T

    def encode_views(self, views: np.ndarray) -> np.ndarray:
        assert views.shape[1:] == (SETTINGS.views, 4, 4) and views.dtype == np.uint8
        return self.scale * np.repeat(views.mean((2, 3), dtype=np.float32)[..., None], 512, axis=2)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    made = create_library(tmp_path / "parts.lance", SETTINGS)
    fill(made, [f"{label}/{i}.obj" for label in "ab" for i in range(5)])
    return made


def test_only_what_has_no_features_of_this_model_is_embedded(library: Library) -> None:
    model = Stub("aaaa1111")
    assert embed(model, library) == 10
    views = library.features("aaaa1111").each_view
    assert np.allclose(views[..., 0], library.views(size=4).mean((2, 3)))
    assert np.array_equal(library.features().views, views.max(1))
    version = library.version
    assert embed(model, library) == 0 and library.version == version
    fill(library, ["a/0.obj", "c/0.obj"], content="new")
    model.seen = 0
    assert embed(model, library.path) == 2 and model.seen == 2
    assert len(open_library(library.path).features("aaaa1111").names) == 11
    assert embed(Stub("bbbb1111", 2.0), library) == 11
    assert np.array_equal(
        library.features("bbbb1111").each_view[..., 0],
        2 * library.views(size=4).mean((2, 3), dtype=np.float32),
    )


def test_blocks_are_committed_and_gone_on_with(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedding, "COMMIT", 4)
    monkeypatch.setattr(embedding, "STEP", 2)

    class Tired(Stub):
        def encode_points(self, points: np.ndarray) -> np.ndarray:
            if self.seen >= 6:
                raise KeyboardInterrupt
            return super().encode_points(points)

    with pytest.raises(KeyboardInterrupt):
        embed(Tired("aaaa1111"), library)
    half = open_library(library.path)
    assert half.models() == {"aaaa1111": 6, None: 4}, "a block that was committed, and a step of the next"
    with pytest.raises(
        CrosshapeError, match="6 of 10 shapes by model aaaa1111, 4 not yet. Finish it: crosshape"
    ):
        half.features()
    assert embed(Stub("aaaa1111"), half) == 4
    whole = create_library(library.path.parent / "whole.lance", SETTINGS)
    fill(whole, library.names)
    embed(Stub("aaaa1111"), whole)
    assert np.array_equal(whole.features().points, half.features().points)


def test_shapes_that_are_removed_or_changed_meanwhile(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "COMMIT", 4)

    class Watched(Stub):
        def encode_points(self, points: np.ndarray) -> np.ndarray:
            if not self.seen:  # a/0 to a/3 are being encoded
                other = open_library(library.path)
                other.remove(["a/1.obj", "b/1.obj", "b/2.obj"])
                fill(other, ["a/2.obj", "b/3.obj"], content="changed")
                fill(other, ["c/0.obj"])
            return super().encode_points(points)

    model = Watched("aaaa1111")
    assert embed(model, library) == 6 and model.seen == 8
    now = open_library(library.path)
    assert now.without_features("aaaa1111") == ["a/2.obj", "c/0.obj"]
    assert embed(model, now) == 2
    views = now.features("aaaa1111").each_view
    assert np.allclose(views[..., 0], now.views(size=4).mean((2, 3)))


def test_ctrl_c_writes_what_is_ready_unless_another_model_would_be_half_replaced(
    library: Library, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(embedding, "STEP", 2)

    class Stopped(Stub):
        def encode_views(self, views: np.ndarray) -> np.ndarray:
            if self.seen >= 6:
                raise KeyboardInterrupt
            return super().encode_views(views)

    with pytest.raises(KeyboardInterrupt):
        embed(Stopped("aaaa1111"), library)
    assert library.models() == {"aaaa1111": 4, None: 6}
    embed(Stub("aaaa1111"), library)
    with pytest.raises(KeyboardInterrupt):
        embed(Stopped("bbbb1111"), library)
    assert library.models() == {"aaaa1111": 10}
    monkeypatch.setattr("crosshape.networks.model.load_model", lambda *_: Stopped("cccc1111"))
    assert main(["embed", "RUN", str(library.path)]) == 130
    assert "0 of 10 shapes have features of model cccc1111; run the same command" in capsys.readouterr().err


def test_an_empty_library_and_one_with_small_views(tmp_path: Path) -> None:
    empty = create_library(tmp_path / "empty.lance", SETTINGS)
    with pytest.raises(CrosshapeError, match="holds no shapes. Add some: crosshape add SHAPES"):
        embed(Stub("aaaa1111"), empty)
    fill(empty, ["a.obj"])
    model = Stub("aaaa1111")
    model.image_size = 16
    with pytest.raises(CrosshapeError, match="has views of 8 pixels; 16 cannot be made of them"):
        embed(model, empty)
