"""Plain ways with meshes, pictures and vectors that crosshape is measured against; no torch here."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np


def picture_batch(folder: Path, rows: np.ndarray, first: np.ndarray, second: np.ndarray) -> list[np.ndarray]:
    """Clouds (B, P, 3) and two views (B, S, S) from files, one by one: 00012.npy, 00012_03.png."""
    from PIL import Image

    clouds = np.stack([np.load(folder / f"{row:05d}.npy") for row in rows])
    views = [
        np.stack(
            [
                np.asarray(Image.open(folder / f"{row:05d}_{view:02d}.png"))
                for row, view in zip(rows, ring, strict=True)
            ]
        )
        for ring in (first, second)
    ]
    return [clouds, *views]


def full_sort(directions: np.ndarray, query: np.ndarray, top: int) -> np.ndarray:
    """Vectors (N, D), (D,) of length 1 -> the rows of the `top` largest cosines, by sorting all of them."""
    return np.argsort(-(directions @ query), kind="stable")[:top]


@cache
def mesh_library() -> str:
    """The first that can be used of Open3D, pyrender, trimesh with embree. Raises Absent, with what is in the way."""
    from importlib import import_module
    from importlib.util import find_spec

    from crosshape.benchmark.measuring import Absent

    broken = []
    for name in ("open3d", "pyrender", "embreex"):
        if find_spec(name) is None:
            continue
        try:
            import_module(name)
        except Exception as error:  # a library of the system that it wants is missing, mostly
            broken.append(f"{name} is installed but cannot be imported ({error})")
        else:
            return name
    raise Absent("; ".join(broken) or "no other renderer is here to compare with; pip install open3d")


def render(vertices: np.ndarray, faces: np.ndarray, views: int, size: int, library: str) -> np.ndarray:
    """One mesh through a common library -> (views, size, size) uint8, cameras and shading as in crosshape."""
    from crosshape.shapes.views import DISTANCE, camera_ring, focal

    cameras, length = camera_ring(views), focal(size)
    inside = np.array([[length, 0, size / 2], [0, length, size / 2], [0, 0, 1]])
    draw: Any = {"open3d": _open3d, "pyrender": _pyrender, "embreex": _embree}[library]
    cosines = draw(vertices, faces, cameras, inside, size, DISTANCE)
    return np.where(np.isnan(cosines), 255, 30 + 180 * np.nan_to_num(cosines)).round().astype(np.uint8)


def _rays(camera: np.ndarray, inside: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Origin (3,) and unit directions (size * size, 3) of a camera's pixels."""
    column, row = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    x, y = (column - inside[0, 2]) / inside[0, 0], (row - inside[1, 2]) / inside[1, 1]
    directions = np.stack([x, y, np.ones_like(x)], axis=2).reshape(-1, 3) @ camera[:, :3]
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return -camera[:, :3].T @ camera[:, 3], directions


def _open3d(
    vertices: np.ndarray, faces: np.ndarray, cameras: np.ndarray, inside: np.ndarray, size: int, far: float
) -> np.ndarray:
    from importlib import import_module

    open3d: Any = import_module("open3d")
    scene = open3d.t.geometry.RaycastingScene()
    scene.add_triangles(
        open3d.core.Tensor(np.ascontiguousarray(vertices, np.float32)),
        open3d.core.Tensor(np.ascontiguousarray(faces, np.uint32)),
    )
    out = np.empty((len(cameras), size, size), np.float32)
    for i, camera in enumerate(cameras):
        matrix = np.eye(4)
        matrix[:3] = camera
        rays = scene.create_rays_pinhole(
            intrinsic_matrix=open3d.core.Tensor(inside),
            extrinsic_matrix=open3d.core.Tensor(matrix),
            width_px=size,
            height_px=size,
        )
        hit = scene.cast_rays(rays)
        directions = rays.numpy()[:, :, 3:]
        directions /= np.linalg.norm(directions, axis=2, keepdims=True)
        cosine = np.abs((hit["primitive_normals"].numpy() * directions).sum(axis=2))
        out[i] = np.where(np.isfinite(hit["t_hit"].numpy()), cosine, np.nan)
    return out


def _embree(
    vertices: np.ndarray, faces: np.ndarray, cameras: np.ndarray, inside: np.ndarray, size: int, far: float
) -> np.ndarray:
    import trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    mesh = trimesh.Trimesh(vertices, faces, process=False)
    finder, normals = RayMeshIntersector(mesh), mesh.face_normals
    out = np.empty((len(cameras), size, size), np.float32)
    for i, camera in enumerate(cameras):
        origin, directions = _rays(camera, inside, size)
        face = finder.intersects_first(np.broadcast_to(origin, directions.shape), directions)
        cosine = np.abs((normals[face] * directions).sum(axis=1))
        out[i] = np.where(face >= 0, cosine, np.nan).reshape(size, size)
    return out


def _pyrender(
    vertices: np.ndarray, faces: np.ndarray, cameras: np.ndarray, inside: np.ndarray, size: int, far: float
) -> np.ndarray:
    import os

    os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    import pyrender
    import trimesh

    mesh = trimesh.Trimesh(vertices, faces, process=False)
    white = pyrender.MetallicRoughnessMaterial(metallicFactor=0.0, roughnessFactor=1.0, doubleSided=True)
    scene = pyrender.Scene(bg_color=[255, 255, 255], ambient_light=[0.1, 0.1, 0.1])
    scene.add(pyrender.Mesh.from_trimesh(mesh, material=white, smooth=False))
    eye = pyrender.IntrinsicsCamera(inside[0, 0], inside[1, 1], inside[0, 2], inside[1, 2], 0.1, 2 * far)
    node = scene.add(eye)
    light = scene.add(pyrender.DirectionalLight(intensity=3.0))
    renderer = pyrender.OffscreenRenderer(size, size)
    out = np.empty((len(cameras), size, size), np.float32)
    for i, camera in enumerate(cameras):
        pose = np.eye(4)
        pose[:3, :3] = camera[:, :3].T @ np.diag([1.0, -1.0, -1.0])
        pose[:3, 3] = -camera[:, :3].T @ camera[:, 3]
        scene.set_pose(node, pose)
        scene.set_pose(light, pose)
        colour, depth = renderer.render(scene)
        out[i] = np.where(depth > 0, colour[:, :, 0] / 255, np.nan)
    renderer.delete()
    return out


def prepare(path: Path, target: Path, points: int, views: int, size: int, supersample: int) -> None:
    """One file, as a script would: trimesh reads and samples, a library renders, pictures go to PNG files."""
    import trimesh
    from PIL import Image

    mesh: Any = trimesh.load(path, force="mesh", process=False)
    vertices = np.asarray(mesh.vertices) - mesh.bounds.mean(axis=0)
    vertices = vertices / np.linalg.norm(vertices, axis=1).max()
    mesh = trimesh.Trimesh(vertices, mesh.faces, process=False)
    cloud, face = trimesh.sample.sample_surface(mesh, points, seed=0)
    np.save(target / f"{path.stem}.npy", np.asarray(cloud, np.float32))
    np.save(target / f"{path.stem}_normals.npy", np.asarray(mesh.face_normals[face], np.float16))
    pictures = render(vertices, mesh.faces, views, size * supersample, mesh_library())
    blocks = pictures.reshape(views, size, supersample, size, supersample)
    for i, picture in enumerate(blocks.mean(axis=(2, 4)).round().astype(np.uint8)):
        Image.fromarray(picture).save(target / f"{path.stem}_{i:02d}.png")
