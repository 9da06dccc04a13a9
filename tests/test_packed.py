"""results/modelnet40/packed.py: a library of clouds in one small file, and back."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree


@pytest.fixture(scope="module")
def packed():
    place = Path(__file__).parents[1] / "results" / "modelnet40" / "packed.py"
    spec = importlib.util.spec_from_file_location("packed", place)
    module = importlib.util.module_from_spec(spec)
    sys.modules["packed"] = module  # its worker processes look it up by name
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def clouds():
    points = np.random.default_rng(0).normal(size=(10, 200, 3))
    points /= np.linalg.norm(points, axis=2).max(axis=1)[:, None, None]
    return points.astype(np.float32)


def test_clouds_come_back_to_half_a_cell(packed, clouds):
    names = [f"{'chair' if i % 2 else 'Tisch ü'}/{i}" for i in range(10)]
    back, known = packed.unpack(packed.pack(clouds, names))
    assert known == names and back.shape == clouds.shape and back.dtype == np.float32
    assert np.linalg.norm(back, axis=2).max() <= 1.000001
    for one, other in zip(clouds, back, strict=True):
        assert cKDTree(other).query(one)[0].max() < 0.0005 * 3**0.5 + 1e-4
        assert cKDTree(one).query(other)[0].max() < 0.0005 * 3**0.5 + 1e-4


def test_corners_and_equal_points_survive(packed):
    points = np.zeros((2, 8, 3), np.float32)
    points[0, 0], points[0, 1], points[1] = (1, 0, 0), (-1, 0, 0), (0, 0, -1)
    back, _ = packed.unpack(packed.pack(points, ["a/1", "b/2"]))
    assert np.abs(np.sort(back, axis=1) - np.sort(points, axis=1)).max() < 0.001


def test_the_set_has_labels_a_split_and_views(packed, clouds, tmp_path):
    path = tmp_path / "few.packed"
    path.write_bytes(packed.pack(clouds, [f"{'ab'[i % 2]}/{i}" for i in range(10)]))
    data = packed.open_packed(path, image_size=32, fifth=2)
    points, views = data.arrays
    assert points.shape == (10, 200, 3) and views.shape == (10, 12, 32, 32) and views.dtype == np.uint8
    assert data.labels.tolist() == [0, 1] * 5
    assert (
        data.test(0).sum() == 2
        and not (data.test(0) & packed.open_packed(path, image_size=32, fifth=1).test(0)).any()
    )
    assert (views.reshape(10, -1) < 255).any(axis=1).all()
