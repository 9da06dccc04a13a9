"""Shapes made from code: the same every time, sound, varied, and as their files say."""

import numpy as np
import pytest

from crosshape.errors import UsageError
from crosshape.shapes import made
from crosshape.shapes.files import load_shape


def area(vertices, faces):
    corners = vertices[faces].astype(np.float64)
    return np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2


def test_enough_classes_in_order():
    assert len(made.CLASSES) >= 16
    assert list(made.CLASSES) == sorted(set(made.CLASSES))


@pytest.mark.parametrize("label", made.CLASSES)
def test_sound(label):
    seen, shapes = set(), [made.make_shape(label, seed) for seed in range(24)]
    for shape in shapes:
        assert shape.vertices.dtype == np.float32 and shape.faces.dtype == np.int64
        assert np.isfinite(shape.vertices).all()
        assert 0.999 < np.linalg.norm(shape.vertices, axis=1).max() < 1.001
        assert shape.faces.min() >= 0 and shape.faces.max() < len(shape.vertices)
        assert area(shape.vertices, shape.faces).min() > 0
        assert len(shape.part_of_face) == len(shape.faces) < 20_000
        assert shape.part_names == shapes[0].part_names and len(shape.part_names) >= 3
        seen |= {shape.part_names[i] for i in np.unique(shape.part_of_face)}
    assert seen == set(shapes[0].part_names)


@pytest.mark.parametrize("label", made.CLASSES)
def test_same_seed_same_shape_other_seed_other_shape(label):
    first, again, other = (made.make_shape(label, seed) for seed in (7, 7, 8))
    assert np.array_equal(first.vertices, again.vertices) and np.array_equal(first.faces, again.faces)
    assert np.array_equal(first.part_of_face, again.part_of_face)
    assert not np.array_equal(first.vertices, other.vertices)
    extents = np.array([np.ptp(made.make_shape(label, seed).vertices, axis=0) for seed in range(20)])
    assert (extents.std(axis=0) > 0.03).all(), "proportions and pose differ within a class"


@pytest.mark.parametrize("label", made.CLASSES)
def test_every_piece_faces_outwards(label):
    for seed in range(12):
        for name, pieces in made.BUILDERS[label](np.random.default_rng(seed)).items():
            for vertices, faces in pieces:
                a, b, c = (vertices[faces[:, i]] for i in range(3))
                assert np.einsum("ij,ij->", a, np.cross(b, c)) > 0, (name, seed)


def test_unknown_label():
    with pytest.raises(UsageError, match="^no made shape is called 'chairs'; there are airplane, bed, bench"):
        made.make_shape("chairs", 1)


def test_written_files_read_back(tmp_path):
    paths = made.write_shapes(tmp_path, 2, seed=5)
    assert len(paths) == 2 * len(made.CLASSES)
    assert {path.suffix[1:] for path in paths} == set(made.WRITTEN)
    assert paths[0].relative_to(tmp_path).as_posix().startswith("airplane/airplane_0006.")
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == set(paths), "no files beside the shapes"
    for path in paths[:10]:
        label, number = path.stem.rsplit("_", 1)
        shape, read = made.make_shape(label, int(number)), load_shape(path)
        assert len(read.faces) == len(shape.faces), path.name
        wanted, got = shape.vertices[shape.faces], read.vertices[read.faces]
        assert np.abs(got - wanted).max() < 1e-4, f"{path.name}: same faces in the same order, Z up"


def test_classes_overlap():
    """Nearest neighbours by extents and area alone, which need no learning, are often wrong."""
    marks, labels = [], []
    for label in made.CLASSES:
        for seed in range(10):
            shape = made.make_shape(label, seed)
            sizes = np.sort(np.ptp(shape.vertices, axis=0)[:2])
            marks.append([*sizes, np.ptp(shape.vertices[:, 2]), area(shape.vertices, shape.faces).sum() / 4])
            labels.append(label)
    far = np.linalg.norm(np.array(marks)[:, None] - np.array(marks), axis=2) + np.eye(len(marks)) * 9
    right = np.mean([labels[i] == labels[j] for i, j in enumerate(far.argmin(axis=1))])
    assert 0.1 < right < 0.6
