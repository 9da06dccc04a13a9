"""The renderer against what is known without it: a sphere, a cube, rays through trimesh, symmetries."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import trimesh

from crosshape.shapes.surface import normalise, sample_surface
from crosshape.shapes.views import (
    DISTANCE,
    EDGE,
    FILL,
    FRONT,
    GROUND,
    camera_ring,
    focal,
    render_mesh,
    render_points,
)


def unit(mesh):
    vertices, _, _ = normalise(mesh.vertices, mesh.faces)
    return vertices, np.asarray(mesh.faces)


@pytest.fixture(scope="module")
def odd():
    """A shape without any symmetry, partly hidden by itself: a box, a cone and a ball."""
    box = trimesh.creation.box((1, 0.6, 0.3))
    cone = trimesh.creation.cone(0.3, 0.9)
    cone.apply_translation((0.4, 0.3, 0.1))
    ball = trimesh.creation.icosphere(2, 0.25)
    ball.apply_translation((-0.5, 0.5, 0.4))
    return unit(trimesh.util.concatenate([box, cone, ball]))


def rays(camera, size):
    """Origins and directions (S * S, 3) through the pixel centres of a camera, in the shape's axes."""
    rotation, shift = camera[:, :3], camera[:, 3]
    grid = (np.arange(size) + 0.5 - size / 2) / focal(size)
    u, v = np.meshgrid(grid, grid)
    directions = np.stack([u, v, np.ones_like(u)], axis=-1).reshape(-1, 3) @ rotation
    return np.tile(-rotation.T @ shift, (size * size, 1)), directions


def cast(mesh, camera, origin, direction):
    """Depth along the camera axis (R,) of the first face each ray meets, inf for none, through trimesh."""
    depth = np.full(len(origin), np.inf)
    for corners in mesh.triangles:
        normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
        if not normal.any():
            continue
        place, valid = trimesh.intersections.planes_lines(
            np.tile(corners[0], (len(origin), 1)), np.tile(normal, (len(origin), 1)), origin, direction
        )
        share = trimesh.triangles.points_to_barycentric(np.tile(corners, (len(place), 1, 1)), place)
        ray = np.flatnonzero(valid)[(share >= 0).all(axis=1)]
        found = place[(share >= 0).all(axis=1)] @ camera[2, :3] + camera[2, 3]
        depth[ray] = np.minimum(depth[ray], found)
    return depth


def test_cameras_stand_on_a_ring_and_look_at_the_centre():
    cameras = camera_ring(12)
    rotation, shift = cameras[:, :, :3], cameras[:, :, 3]
    assert np.einsum("vij,vkj->vik", rotation, rotation) == pytest.approx(np.tile(np.eye(3), (12, 1, 1)))
    assert np.linalg.det(rotation) == pytest.approx(np.ones(12))
    place = -np.einsum("vji,vj->vi", rotation, shift)
    assert np.linalg.norm(place, axis=1) == pytest.approx(np.full(12, DISTANCE))
    assert place[:, 2] == pytest.approx(np.full(12, DISTANCE * np.sin(np.radians(30))))
    azimuth = np.degrees(np.arctan2(place[:, 1], place[:, 0])) % 360
    assert azimuth == pytest.approx(np.arange(12) * 30, abs=1e-9)
    up = cameras @ np.array([0, 0, 1, 1])  # a point above the centre is seen above it, straight
    assert (up[:, 1] < 0).all() and np.abs(up[:, 0]).max() < 1e-12


def test_a_sphere_has_the_area_the_depth_the_normals_and_the_shade_of_one():
    size = 200
    ball = unit(trimesh.creation.icosphere(5))
    seen = render_mesh(*ball, views=3, size=size, supersample=1, depth=True, normals=True)
    smooth = render_mesh(*ball, views=3, size=size, supersample=4)
    assert seen.shading.shape == (3, size, size) and seen.shading.dtype == np.uint8
    for i, camera in enumerate(camera_ring(3)):
        origin, direction = rays(camera, size)
        a, b = (direction**2).sum(1), (origin * direction).sum(1)
        inside = b * b - a * (DISTANCE**2 - 1)
        hit = inside.reshape(size, size) > 0
        assert hit.mean() == pytest.approx(np.pi / 4 * FILL**2, rel=2e-3)
        covered = np.isfinite(seen.depth[i])
        assert (covered ^ hit).mean() < 0.002
        well = (inside > 0.02).reshape(size, size)  # not right at the rim, where flat faces show
        depth = (-b - np.sqrt(np.maximum(inside, 0))) / a
        assert np.abs(seen.depth[i][well] - depth.reshape(size, size)[well]).max() < 0.003
        point = origin + depth[:, None] * direction
        cosine = -(point * direction).sum(1) / np.sqrt(a)
        grey = (EDGE + (FRONT - EDGE) * cosine).reshape(size, size)
        assert np.abs(seen.shading[i][well] - grey[well]).max() < 6
        assert np.abs(seen.shading[i][well] - grey[well]).mean() < 1
        assert np.abs(seen.normals[i][well] - 127 * point.reshape(size, size, 3)[well]).max() < 5
        assert (seen.shading[i][~covered] == GROUND).all() and (seen.normals[i][~covered] == 0).all()
        ink = np.where(hit, GROUND - grey, 0).sum()
        assert (GROUND - smooth.shading[i].astype(float)).sum() == pytest.approx(ink, rel=3e-3)


def test_a_cube_shows_the_three_sides_that_face_the_camera():
    vertices, faces = unit(trimesh.creation.box((1, 1, 1)))
    seen = render_mesh(vertices, faces, views=8, size=128, supersample=1, depth=True, normals=True)
    camera = camera_ring(8)[1]  # at azimuth 45
    normals = np.unique(seen.normals[1].reshape(-1, 3), axis=0)
    assert normals.tolist() == [[0, 0, 0], [0, 0, 127], [0, 127, 0], [127, 0, 0]]
    corner = camera @ np.append(np.full(3, np.sqrt(1 / 3)), 1)  # the nearest corner
    row = int(64 + focal(128) * corner[1] / corner[2])
    assert seen.depth[1].min() == pytest.approx(corner[2], abs=0.02)
    assert np.isfinite(seen.depth[1][row, 64]) and seen.depth[1][row, 64] == pytest.approx(
        corner[2], abs=0.03
    )
    assert (seen.shading[1] == seen.shading[3][:, ::-1]).mean() > 0.99  # mirror images of each other
    assert np.abs(seen.shading[1].astype(int) - seen.shading[3]).max() <= 1


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_pixel_agrees_with_a_ray(seed, odd):
    """Against rays cast through trimesh: something where they hit something, at the same depth."""
    size = 24
    if seed == 0:
        vertices, faces = odd
    else:  # a soup: faces through each other, slivers, some without area
        random = np.random.default_rng(seed)
        soup = random.normal(size=(40, 3, 3)) * random.uniform(0.01, 1, (40, 1, 1))
        soup[0, 1] = soup[0, 0]
        soup[1, 2] = (soup[1, 0] + soup[1, 1]) / 2
        vertices, faces = unit(
            trimesh.Trimesh(soup.reshape(-1, 3), np.arange(120).reshape(-1, 3), process=False)
        )
    mesh = trimesh.Trimesh(vertices.astype(float), faces, process=False)
    seen = render_mesh(vertices, faces, views=5, size=size, supersample=1, depth=True)
    wrong = 0
    for i, camera in enumerate(camera_ring(5)):
        origin, direction = rays(camera, size)
        depth = cast(mesh, camera, origin, direction)
        ours = seen.depth[i].ravel()
        both = np.isfinite(depth) & np.isfinite(ours)
        wrong += (np.isfinite(depth) != np.isfinite(ours)).sum() + (
            np.abs(depth[both] - ours[both]) > 1e-3
        ).sum()
    assert wrong <= 5 * size * size * 0.002  # a ray through an edge may fall to either side


def test_no_gap_between_faces_that_share_an_edge():
    """A finely cut plane, turned against the pixels: every pixel well inside is covered."""
    random = np.random.default_rng(0)
    from scipy.spatial import Delaunay

    flat = random.uniform(-0.7, 0.7, (3000, 2))
    faces = Delaunay(flat).simplices
    vertices = np.column_stack([flat, 0.05 * flat[:, 0]]).astype(np.float32)
    for supersample in (1, 2):
        seen = render_mesh(vertices, faces, views=7, size=150, supersample=supersample, depth=True)
        for i, camera in enumerate(camera_ring(7)):
            points = random.uniform(-0.6, 0.6, (20000, 2))
            inner = np.column_stack([points, 0.05 * points[:, 0], np.ones(len(points))]) @ camera.T
            column = (75 + focal(150) * inner[:, 0] / inner[:, 2]).astype(int)
            row = (75 + focal(150) * inner[:, 1] / inner[:, 2]).astype(int)
            assert np.isfinite(seen.depth[i][row, column]).all()
            assert (seen.shading[i][row, column] < GROUND - 20).all()


def test_turning_the_shape_rolls_the_views(odd):
    vertices, faces = odd
    base = render_mesh(vertices, faces, size=96).shading
    angle = np.radians(30)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    turned = render_mesh(vertices @ turn.T, faces, size=96).shading
    difference = np.abs(turned.astype(int) - np.roll(base, 1, axis=0))
    assert difference.mean() < 0.05
    assert (
        np.abs(turned.astype(int) - np.roll(base, -1, axis=0)).mean() > 5
    )  # the other way round it would show


def test_neither_place_nor_scale_nor_winding_nor_order_of_faces_show(odd):
    vertices, faces = odd
    base = render_mesh(vertices, faces, size=96).shading
    moved, _, _ = normalise(vertices.astype(float) * 1e4 + 123, faces)
    assert np.abs(render_mesh(moved, faces, size=96).shading.astype(int) - base).mean() < 0.01
    random = np.random.default_rng(0)
    flip = random.random(len(faces)) < 0.5
    mixed = np.where(flip[:, None], faces[:, ::-1], faces)
    assert (render_mesh(vertices, mixed, size=96).shading == base).mean() > 0.9999
    assert (render_mesh(vertices, random.permutation(faces), size=96).shading == base).mean() > 0.9999


def test_vertices_that_no_face_uses_do_not_matter(odd):
    vertices, faces = odd
    more = np.concatenate([vertices, [[9e9, np.nan, np.inf]]]).astype(np.float32)
    assert (render_mesh(more, faces, size=64).shading == render_mesh(vertices, faces, size=64).shading).all()


def test_supersampling_is_an_average(odd):
    fine = render_mesh(*odd, views=4, size=192, supersample=1).shading.astype(float)
    coarse = render_mesh(*odd, views=4, size=96, supersample=2).shading
    mean = fine.reshape(4, 96, 2, 96, 2).mean(axis=(2, 4))
    assert np.abs(mean - coarse).max() < 2.5


def test_threads_give_the_same_bytes(odd):
    one = render_mesh(*odd, views=7, size=80, depth=True, normals=True)
    many = render_mesh(*odd, views=7, size=80, depth=True, normals=True, threads=3)
    for name in ("shading", "depth", "normals"):
        assert (getattr(one, name) == getattr(many, name)).all()
    with ThreadPoolExecutor(4) as pool:  # and so do callers on threads of their own
        for seen in pool.map(lambda _: render_mesh(*odd, views=7, size=80, threads=2), range(8)):
            assert (seen.shading == one.shading).all()


def test_nothing_is_left_from_the_view_before(odd):
    twelve = render_mesh(*odd, views=12, size=64).shading
    assert (render_mesh(*odd, views=6, size=64).shading == twelve[::2]).all()


def test_faces_without_area_and_no_faces_at_all():
    vertices = np.array([[0, 0, 0], [0.5, 0, 0], [0.9, 0, 0], [0, 0.5, 0]], dtype=np.float32)
    for faces in (np.zeros((0, 3), int), np.array([[0, 0, 0], [0, 1, 1], [0, 1, 2]])):
        assert (render_mesh(vertices, faces, views=2, size=32).shading == GROUND).all()


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda v, f: render_mesh(v * 2, f), "the shape must lie in the unit sphere; see normalise"),
        (lambda v, f: render_mesh(v * np.nan, f), "the shape must lie in the unit sphere; see normalise"),
        (lambda v, f: render_mesh(v, f + 99), "faces name vertices 99 to 106, there are 8"),
        (lambda v, f: render_mesh(v, f - 1), "faces name vertices -1 to 6, there are 8"),
        (lambda v, f: render_mesh(v, f + 2**32), "faces name vertices"),
        (lambda v, f: render_mesh(v, f, size=0), "size 0 times supersample 2 must be between 1 and 16384"),
        (lambda v, f: render_mesh(v, f, size=20000), "size 20000 times supersample 2 must be between"),
        (lambda v, f: render_points(v * 2), "the shape must lie in the unit sphere; see normalise"),
        (lambda v, f: render_points(v[:0]), "a cloud without points cannot be seen"),
    ],
)
def test_what_cannot_be_drawn_is_refused_before_the_loops(call, text):
    vertices, faces = unit(trimesh.creation.box((1, 1, 1)))
    with pytest.raises(ValueError, match=text):
        call(vertices, faces)


@pytest.mark.parametrize("shape", ["ball", "box", "odd"])
def test_a_cloud_looks_like_the_mesh_it_was_taken_from(shape, odd):
    """1,024 points: few holes in the silhouette, little outside it, about the same depth and shade."""
    meshes = {"ball": trimesh.creation.icosphere(4), "box": trimesh.creation.box((1, 0.7, 0.5))}
    vertices, faces = odd if shape == "odd" else unit(meshes[shape])
    points, normals, _ = sample_surface(vertices, faces, 1024, 0)
    mesh = render_mesh(vertices, faces, size=112, depth=True)
    for given in (normals, None):
        cloud = render_points(points, given, size=112, depth=True)
        solid, splats = np.isfinite(mesh.depth), np.isfinite(cloud.depth)
        inner = solid.copy()  # without the rim of 3 pixels, where a point may be missing
        for _ in range(3):
            inner[:, 1:-1, 1:-1] &= (
                inner[:, :-2, 1:-1] & inner[:, 2:, 1:-1] & inner[:, 1:-1, :-2] & inner[:, 1:-1, 2:]
            )
        assert (inner & ~splats).sum() / inner.sum() < 0.01
        assert (splats & ~solid).sum() / solid.sum() < 0.06
        both = solid & splats
        assert np.median(np.abs(mesh.depth[both] - cloud.depth[both])) < 0.03
        shade = np.abs(mesh.shading[both].astype(float) - cloud.shading[both]).mean()
        assert shade < (12 if given is not None else 25)


def test_a_cloud_is_seen_the_same_each_time_whatever_the_signs_and_the_order():
    random = np.random.default_rng(0)
    points, normals, _ = sample_surface(*unit(trimesh.creation.capsule(1, 0.4)), 600, 0)
    base = render_points(points, normals, size=64).shading
    assert (render_points(points, normals, size=64).shading == base).all()
    assert (render_points(points, normals, size=64, threads=2).shading == base).all()
    signs = random.choice([-1, 1], (600, 1)).astype(np.float32)
    assert np.abs(render_points(points, normals * signs, size=64).shading.astype(int) - base).max() <= 1
    order = random.permutation(600)
    other = render_points(points[order], normals[order], size=64).shading
    assert np.abs(other.astype(int) - base).mean() < 0.1
    twice = render_points(np.repeat(points, 2, axis=0), np.repeat(normals, 2, axis=0), size=64).shading
    assert np.abs(twice.astype(int) - base).mean() < 0.1


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_handful_of_points_is_seen_too(count):
    points = np.random.default_rng(0).normal(size=(count, 3)) * 0.3
    assert (render_points(points, views=2, size=64).shading < GROUND).any(axis=(1, 2)).all()


@pytest.mark.real
@pytest.mark.skipif("CROSSHAPE_TEST_DATA" not in os.environ, reason="CROSSHAPE_TEST_DATA is not set")
def test_real_clouds_have_few_holes():
    """Of the silhouette closed by 2 pixels at most 6 % is open, on the mean over a cloud of every class."""
    from pathlib import Path

    from scipy.ndimage import binary_closing

    folders = sorted((Path(os.environ["CROSSHAPE_TEST_DATA"]) / "ModelNet40").iterdir())
    share = []
    for folder in folders:
        cloud = np.load(sorted(folder.glob("train/*.npy"))[0], allow_pickle=False)
        vertices, _, _ = normalise(cloud, np.zeros((0, 3), int))
        covered = np.isfinite(render_points(vertices, views=4, size=112, depth=True).depth)
        closed = np.stack([binary_closing(c, iterations=2) for c in covered])
        share.append((closed & ~covered).sum() / closed.sum())
    assert len(share) == 40
    assert np.mean(share) < 0.06
