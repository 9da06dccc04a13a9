"""Normalising and sampling: the same points wherever and however large a shape is, spread by area."""

import numpy as np
import pytest

from crosshape.errors import UnreadableShape
from crosshape.shapes.surface import (
    estimate_normals,
    face_normals,
    normalise,
    sample_cloud,
    sample_surface,
)

CUBE = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=float)
CUBE_FACES = np.array(
    [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]]
    + [[2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
)


def uneven(seed=0, faces=300):
    """A soup of faces whose areas span four orders of magnitude: a mean or a mix-up of faces would show."""
    random = np.random.default_rng(seed)
    size = 10 ** random.uniform(-2, 0, faces)
    corners = random.normal(size=(faces, 1, 3)) + size[:, None, None] * random.normal(size=(faces, 3, 3))
    return corners.reshape(-1, 3), np.arange(3 * faces).reshape(-1, 3)


def test_normalise_centres_the_surface_and_not_the_vertices():
    """A cube with hundreds of vertices on one side: their mean lies there, the centroid in the middle."""
    many = np.column_stack([np.random.default_rng(0).random((500, 2)), np.ones(500)])
    vertices = np.concatenate([CUBE, many])
    extra = np.column_stack([np.arange(8, 506), np.arange(9, 507), np.arange(9, 507)])  # without area
    scaled, centre, radius = normalise(vertices, np.concatenate([CUBE_FACES, extra]))
    assert centre == pytest.approx([0.5, 0.5, 0.5])
    assert radius == pytest.approx(np.sqrt(0.75))
    assert scaled.dtype == np.float32
    assert np.linalg.norm(scaled[:8], axis=1) == pytest.approx(np.ones(8), abs=1e-6)


def test_normalise_forgets_place_and_scale():
    vertices, faces = uneven()
    scaled, centre, radius = normalise(vertices, faces)
    for factor, shift in ((1e-3, 0), (1e6, 1e6), (3, -700), (1e200, 0), (1e-140, 0)):
        again, moved, larger = normalise(vertices * factor + shift, faces)
        assert again == pytest.approx(scaled, abs=1e-6)
        assert moved == pytest.approx(centre * factor + shift)
        assert larger == pytest.approx(radius * factor)


def test_normalise_ignores_vertices_that_no_face_uses():
    scaled, centre, radius = normalise(np.concatenate([CUBE, [[1e300, np.nan, -np.inf]]]), CUBE_FACES)
    assert radius == pytest.approx(np.sqrt(0.75))
    assert np.abs(scaled[:8]).max() == pytest.approx(np.sqrt(1 / 3))


def test_normalise_a_cloud_by_the_mean_of_its_points():
    cloud = np.array([[0.0, 0, 0], [0, 0, 0], [3, 0, 0]])
    scaled, centre, radius = normalise(cloud, np.zeros((0, 3), int))
    assert (centre == [1, 0, 0]).all() and radius == 2
    assert scaled[:, 0] == pytest.approx([-0.5, -0.5, 1])


@pytest.mark.parametrize(
    ("vertices", "faces", "text"),
    [
        (np.zeros((0, 3)), np.zeros((0, 3), int), "it has no points"),
        (np.full((4, 3), 7.0), np.zeros((0, 3), int), "all its points lie at one place"),
        (np.full((4, 3), 7.0), [[0, 1, 2]], "all its points lie at one place"),
        (
            np.array([[0, 0, 0], [1, 0, np.nan]]),
            np.zeros((0, 3), int),
            "it has coordinates that are not finite",
        ),
    ],
)
def test_normalise_says_why_it_cannot(vertices, faces, text):
    with pytest.raises(UnreadableShape, match=text):
        normalise(vertices, np.asarray(faces))


def test_faces_of_vertices_that_do_not_exist_are_refused():
    for wrong in (CUBE_FACES + 1, CUBE_FACES - 1):
        for call in (normalise, face_normals, lambda v, f: sample_surface(v, f, 10, 0)):
            with pytest.raises(
                ValueError, match=f"faces name vertices {wrong.min()} to {wrong.max()}, there are 8"
            ):
                call(CUBE, wrong)


def test_points_are_spread_by_area():
    """Chi-square of the counts per face over 20 seeds, in groups that expect 40 or more."""
    vertices, faces = uneven()
    _, area = face_normals(vertices, faces)
    count, seeds = 2048, 20
    found = np.zeros(len(faces))
    for seed in range(seeds):
        found += np.bincount(sample_surface(vertices, faces, count, seed)[2], minlength=len(faces))
    expected = area / area.sum() * count * seeds
    large = expected >= 40
    groups = [(found[large], expected[large]), (found[~large].sum(), expected[~large].sum())]
    chi = sum((((f - e) ** 2) / e).sum() for f, e in groups)
    assert chi < 2 * (
        large.sum() + 1
    )  # stratified counts vary less than random ones, whose mean is 1 a group
    wrong = np.full(len(faces), count * seeds / len(faces))  # the same test tells "every face alike" apart
    assert (((found - wrong) ** 2) / wrong).sum() > 100 * len(faces)


def test_points_lie_on_their_faces_with_unit_normals():
    vertices, faces = uneven(1)
    points, normals, face = sample_surface(vertices, faces, 3000, 5)
    assert points.dtype == normals.dtype == np.float32 and face.dtype == np.int64
    corners = vertices[faces[face]]
    one, two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    solved = [
        np.linalg.lstsq(np.stack(e, 1), p, rcond=None)[0]
        for e, p in zip(zip(one, two, strict=True), points - corners[:, 0], strict=True)
    ]
    s, t = np.array(solved).T
    assert s.min() > -1e-3 and t.min() > -1e-3 and (s + t).max() < 1 + 1e-3
    back = corners[:, 0] + s[:, None] * one + t[:, None] * two
    assert np.abs(back - points).max() < 1e-6
    assert np.linalg.norm(normals, axis=1) == pytest.approx(np.ones(3000), abs=1e-6)
    assert np.abs((normals * one).sum(1)).max() < 1e-6 and np.abs((normals * two).sum(1)).max() < 1e-6


def test_points_fill_a_face_evenly():
    """Within one large face: each quarter holds a quarter of the points, more evenly than chance would."""
    triangle = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]])
    points, _, _ = sample_surface(triangle, np.array([[0, 1, 2]]), 4000, 3)
    x, y = points[:, 0], points[:, 1]
    quarters = [(x > 0.5).sum(), (y > 0.5).sum(), (x + y < 0.5).sum()]
    assert np.abs(np.array(quarters) - 1000).max() < 30


def test_sampling_repeats_and_knows_neither_place_nor_scale():
    vertices, faces = uneven(2)
    base = sample_surface(normalise(vertices, faces)[0], faces, 512, 9)
    again = sample_surface(normalise(vertices, faces)[0], faces, 512, 9)
    assert all((a == b).all() for a, b in zip(base, again, strict=True))
    moved = sample_surface(normalise(vertices * 77 - 5, faces)[0], faces, 512, 9)
    assert np.abs(moved[0] - base[0]).max(axis=1).mean() < 1e-3
    other = sample_surface(normalise(vertices, faces)[0], faces, 512, 10)
    assert np.abs(other[0] - base[0]).mean() > 0.1


def test_a_first_part_of_the_points_is_fair():
    """Two far apart cubes, one after the other in the file: half of the points know both alike."""
    vertices = np.concatenate([CUBE, CUBE + 10])
    points, _, _ = sample_surface(vertices, np.concatenate([CUBE_FACES, CUBE_FACES + 8]), 2048, 1)
    assert 0.4 < (points[:1024, 0] > 5).mean() < 0.6


def test_a_surface_without_area_has_no_points():
    with pytest.raises(UnreadableShape, match="its surface has no area"):
        sample_surface(CUBE, np.array([[0, 0, 1], [1, 1, 1]]), 10, 0)


def test_faces_without_area_get_no_points():
    faces = np.concatenate([[[0, 0, 1]], CUBE_FACES, [[3, 3, 3], [1, 1, 2]]])
    _, normals, face = sample_surface(CUBE, faces, 1000, 0)
    assert face.min() >= 1 and face.max() <= 12
    assert np.linalg.norm(normals, axis=1).min() > 0.999


def test_a_large_cloud_is_drawn_without_repeats_and_a_small_one_evenly():
    cloud = np.random.default_rng(0).normal(size=(900, 3)).astype(np.float32)
    points, normals = sample_cloud(cloud, None, 500, 4)
    assert len(np.unique(points, axis=0)) == 500
    assert np.linalg.norm(normals, axis=1) == pytest.approx(np.ones(500), abs=1e-5)
    points, _ = sample_cloud(cloud, None, 2000, 4)
    counts = np.unique(points, axis=0, return_counts=True)[1]
    assert len(counts) == 900 and set(counts) == {2, 3}
    same, _ = sample_cloud(cloud, None, 2000, 4)
    assert (same == points).all()


def test_given_normals_stay_with_their_points():
    cloud = np.random.default_rng(1).normal(size=(300, 3)).astype(np.float32)
    unit = cloud / np.linalg.norm(cloud, axis=1, keepdims=True)
    points, normals = sample_cloud(cloud, unit, 200, 0)
    assert np.abs(normals - points / np.linalg.norm(points, axis=1, keepdims=True)).max() < 1e-6


def test_normals_of_a_sphere_and_of_a_plane_from_neighbours():
    random = np.random.default_rng(0)
    sphere = random.normal(size=(2000, 3))
    sphere /= np.linalg.norm(sphere, axis=1, keepdims=True)
    cosine = np.abs((estimate_normals(sphere) * sphere).sum(1))
    assert np.degrees(np.arccos(np.minimum(cosine, 1))).mean() < 5
    plane = np.column_stack([random.random((500, 2)), np.zeros(500)])
    assert np.abs(estimate_normals(plane)[:, 2]).min() > 0.9999


@pytest.mark.parametrize(
    "cloud",
    [
        np.zeros((50, 3)),
        np.outer(np.linspace(0, 1, 50), [1, 2, 3]),
        np.outer(np.linspace(0, 1, 50), [0, 0, 1]),
        np.zeros((1, 3)),
        np.eye(3)[:2],
        np.repeat(np.eye(3), 30, axis=0),
    ],
    ids=["one place", "a line", "along an axis", "one point", "two points", "three places"],
)
def test_normals_are_unit_where_no_plane_is_defined(cloud):
    normals = estimate_normals(cloud)
    assert np.linalg.norm(normals, axis=1) == pytest.approx(np.ones(len(cloud)), abs=1e-5)
    if len(cloud) == 50 and cloud.any():
        assert np.abs(normals @ (cloud[1] / np.linalg.norm(cloud[1]))).max() < 1e-3  # across the line


def test_neighbour_normals_agree_with_numpy():
    from crosshape.shapes.neighbours import nearest, plane_normals

    cloud = np.random.default_rng(3).normal(size=(300, 3)).astype(np.float32) * [1, 2, 0.3]
    cloud = cloud.astype(np.float32)
    _, number = nearest(cloud, cloud, 12)
    normals, _ = plane_normals(cloud, number)
    for i in range(300):
        around = cloud[number[i]].astype(float)
        vector = np.linalg.eigh(np.cov(around.T))[1][:, 0]
        assert abs(vector @ normals[i]) == pytest.approx(1, abs=1e-5)
