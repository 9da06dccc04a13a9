"""The cases: each builds one side, "plain" or "ours", and gives one repetition of it and its number of items.

A side runs in its own process (measuring.py), so what ours sets up, the allocator of `train` among it, does
not help plain. Both sides of a case get the same data from the same seed and the same weights.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from crosshape.benchmark.measuring import Absent, Outcome, Work, compare

PARTS = ("prepare", "points", "views", "train", "encode", "search")


def cases(part: str, quick: bool, shapes: Path | None) -> list[dict[str, Any]]:
    """The cases of a part: what `compare` takes besides threads and device. Quick ones are small and few."""
    points, size = (256, 64) if quick else (1024, 112)
    few, many = (4, 8) if quick else (16, 32)
    repeats = 3 if quick else 5
    folder = str(shapes) if shapes else None

    def case(name: str, build: Callable[..., Work], unit: str, times: int = repeats, **sizes: Any) -> dict:
        return {
            "part": part,
            "case": name,
            "build": f"{__name__}:{build.__name__}",
            "unit": unit,
            "sizes": sizes,
            "repeats": times,
        }

    faces = 50_000 if quick else 1_000_000
    count = 12 if quick else 100
    found = {
        "prepare": [
            case(f"add, {'real' if folder else 'made'} shapes, 12 views of 224, 2 x 2 samples, 2,048 points",
                 add_shapes, "shapes/s", 2, folder=folder, count=count),
            case("rendering 5,000 faces, 12 views of 224", rendering, "meshes/s", faces=5000, size=224),
            case(f"one mesh of {faces:,} faces, read and prepared", large_mesh, "meshes/s", 2, faces=faces),
            case("the guard alone: a prepared shape there and back", guarding, "files/s"),
        ],
        "points": [
            case(f"DGCNN training step, {points:,} points, k = 20, batch {few}", point_training, "clouds/s",
                 batch=few, points=points),
            case(f"the same, plain with our allocator settings, batch {few}", point_training, "clouds/s",
                 batch=few, points=points, plain_allocator=True),
        ],
        "views": [
            case(f"ResNet-18 training step, {size} pixels, batch {many}", view_training, "views/s",
                 batch=many, size=size),
        ],
        "train": [
            case(f"joint step of recipe paper, {points:,} points, {size} pixels, batch {many}", joint_training,
                 "shapes/s", batch=many, points=points, size=size),
            case("the same step fed by a library's arrays, beside a fixed batch", fed_training, "shapes/s",
                 batch=many, points=points, size=size),
            case(f"reading batches of {many}, beside picture files", reading, "shapes/s", batch=many,
                 points=points, size=size),
        ],
        "encode": [
            case(f"DGCNN encoding, {points:,} points, k = 20, batch {few}", point_encoding, "clouds/s",
                 batch=few, points=points),
            case(f"ResNet-18 encoding, {size} pixels, batch {many}", view_encoding, "views/s", batch=many,
                 size=size),
        ],
        "search": [
            case(f"ten nearest of {n:,} shapes", searching, "queries/s", count=n)
            for n in ((2_000,) if quick else (10_000, 100_000))
        ],
    }  # fmt: skip
    return found[part]


def run_part(
    part: str, quick: bool, shapes: Path | None, threads: int, device: str, repeats: int | None = None
) -> list[Outcome]:
    """All cases of a part, one after the other."""
    chosen = cases(part, quick, shapes)
    if repeats is not None:
        chosen = [{**case, "repeats": repeats} for case in chosen]
    return [compare(**case, threads=threads, device=device) for case in chosen]


def some_clouds(count: int, points: int, seed: int = 0) -> np.ndarray:
    """(count, points, 3) float32: clouds of made shapes."""
    from crosshape.shapes.made import CLASSES, make_shape
    from crosshape.shapes.surface import normalise, sample_surface

    out = np.empty((count, points, 3), np.float32)
    for i in range(count):
        made = make_shape(CLASSES[i % len(CLASSES)], seed + i)
        vertices, _, _ = normalise(made.vertices, made.faces)
        out[i] = sample_surface(vertices, made.faces, points, seed + i)[0]
    return out


def some_views(count: int, views: int, size: int, seed: int = 0) -> np.ndarray:
    """(count, views, size, size) uint8: pictures of made shapes."""
    from crosshape.shapes.made import CLASSES, make_shape
    from crosshape.shapes.surface import normalise
    from crosshape.shapes.views import render_mesh

    out = np.empty((count, views, size, size), np.uint8)
    for i in range(count):
        made = make_shape(CLASSES[i % len(CLASSES)], seed + i)
        vertices, _, _ = normalise(made.vertices, made.faces)
        out[i] = render_mesh(vertices, made.faces, views=views, size=size).shading
    return out


def a_mesh(faces: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices in the unit sphere and about so many faces: a dented ball."""
    rows = max(4, round((faces / 4) ** 0.5))
    up, around = np.meshgrid(
        np.linspace(0, np.pi, rows + 1), np.arange(2 * rows) * np.pi / rows, indexing="ij"
    )
    radius = (0.8 + 0.19 * np.sin(7 * around) * np.sin(5 * up))[..., None]
    ball = np.stack([np.sin(up) * np.cos(around), np.sin(up) * np.sin(around), np.cos(up)], axis=2)
    number = np.arange((rows + 1) * 2 * rows).reshape(rows + 1, 2 * rows)
    a, b = number[:-1], number[1:]
    c, d = np.roll(a, -1, axis=1), np.roll(b, -1, axis=1)
    corners = np.concatenate([np.stack([a, b, c], axis=2), np.stack([c, b, d], axis=2)])
    return (radius * ball).reshape(-1, 3), corners.reshape(-1, 3)


def _ready(side: str, device: str) -> Any:
    """torch, and for our side the allocator as `train` sets it."""
    if side == "ours":
        from crosshape.networks.allocator import keep_memory

        keep_memory()
    import torch

    torch.manual_seed(0)
    return torch.device(device)


def _waiting(step: Callable[[], Any], place: Any) -> Callable[[], None]:
    """A step that has ended when it returns, also on a GPU."""
    import torch

    def run() -> None:
        step()
        if place.type == "cuda":
            torch.cuda.synchronize(place)

    return run


def _point_network(side: str, place: Any, k: int = 20) -> Any:
    from crosshape.benchmark.plain import PlainDGCNN
    from crosshape.networks.points import PointNetwork
    from crosshape.settings import NetworkSettings

    network = PointNetwork(NetworkSettings(k=k))
    return (network if side == "ours" else PlainDGCNN(network)).to(place)


def _view_network(side: str, place: Any) -> Any:
    from crosshape.benchmark.plain import PlainResNet18
    from crosshape.networks.images import ImageNetwork
    from crosshape.settings import NetworkSettings

    network = ImageNetwork(NetworkSettings())
    return (network if side == "ours" else PlainResNet18(network)).to(place)


def _training(side: str, network: Any, data: Any, place: Any) -> Callable[[], None]:
    """Forward, backward and a step of SGD; ours in the precision that `train` takes on this device."""
    import torch

    from crosshape.networks.model import autocast

    network.train()
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
    target = torch.randn(len(data), 512, device=place)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        if side == "ours":
            with autocast(place):
                feature = network(data)
        else:
            feature = network(data)
        torch.nn.functional.mse_loss(feature.float(), target).backward()
        optimiser.step()

    return _waiting(step, place)


def point_training(
    side: str, batch: int, points: int, device: str, k: int = 20, plain_allocator: bool = False
) -> Work:
    """A training step of DGCNN."""
    import torch

    place = _ready("ours" if plain_allocator else side, device)
    clouds = torch.from_numpy(some_clouds(batch, points)).to(place)
    return _training(side, _point_network(side, place, k), clouds, place), batch


def view_training(side: str, batch: int, size: int, device: str) -> Work:
    """A training step of ResNet-18."""
    import torch

    place = _ready(side, device)
    views = torch.from_numpy(some_views(batch, 1, size)[:, 0]).to(place)
    return _training(side, _view_network(side, place), views, place), batch


def _encoding(side: str, network: Any, data: Any, place: Any) -> Callable[[], None]:
    import torch

    from crosshape.networks.model import autocast

    network.eval()

    def step() -> None:
        with torch.inference_mode():
            if side == "ours":
                with autocast(place):
                    network(data).float().cpu()
            else:
                network(data).cpu()

    return step


def point_encoding(side: str, batch: int, points: int, device: str, k: int = 20) -> Work:
    """Features of clouds."""
    import torch

    place = _ready(side, device)
    clouds = torch.from_numpy(some_clouds(batch, points)).to(place)
    return _encoding(side, _point_network(side, place, k), clouds, place), batch


def view_encoding(side: str, batch: int, size: int, device: str) -> Work:
    """Features of views."""
    import torch

    place = _ready(side, device)
    views = torch.from_numpy(some_views(batch, 1, size)[:, 0]).to(place)
    return _encoding(side, _view_network(side, place), views, place), batch


def _learner(batch: int, points: int, size: int, device: str, shapes: int) -> Any:
    import torch

    from crosshape.learning.training import Learner
    from crosshape.settings import NetworkSettings, TrainSettings

    settings = TrainSettings(batch_size=batch, points=points, image_size=size, epochs=1000)
    clouds, views = some_clouds(shapes, 2 * points), some_views(shapes, 4, size)
    return Learner(clouds, views, NetworkSettings(), settings, torch.device(device))


def joint_training(side: str, batch: int, points: int, size: int, device: str) -> Work:
    """The joint step on one batch: three networks, both losses, backward, optimiser."""
    import torch

    place = _ready(side, device)
    learner = _learner(batch, points, size, device, batch)
    data = learner.batch(0)
    if side == "ours":
        learner.batch = lambda step: data
        return _waiting(learner.step, place), batch
    from crosshape.benchmark.plain import PlainDGCNN, PlainResNet18, joint_step

    model = learner.model
    judge = torch.nn.Sequential(model.correspondence.first, torch.nn.ReLU(), model.correspondence.second)
    images, network = PlainResNet18(model.images).to(place), PlainDGCNN(model.points).to(place)
    for module in (images, network, judge):
        module.train()
    parameters = [p for module in (images, network, judge) for p in module.parameters()]
    optimiser = torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, weight_decay=5e-4)
    return _waiting(lambda: joint_step(images, network, judge, optimiser, *data[:3]), place), batch


def _on_cpu(array: Any) -> np.ndarray:
    return np.asarray(array.cpu() if hasattr(array, "cpu") else array)


def fed_training(side: str, batch: int, points: int, size: int, device: str) -> Work:
    """Our joint step: on one batch again and again (plain), and with its batches read and changed (ours)."""
    place = _ready("ours", device)
    learner = _learner(batch, points, size, device, 4 * batch)
    if side == "plain":
        data = learner.batch(0)
        learner.batch = lambda step: data
    return _waiting(learner.step, place), batch


def reading(side: str, batch: int, points: int, size: int, device: str) -> Work:
    """Batches from files, a cloud or picture each (plain), and from a library's arrays; then the same changes."""
    import torch

    place = _ready("ours", device)
    shapes = 4 * batch
    learner = _learner(batch, points, size, device, shapes)
    if side == "ours":

        def step() -> None:
            learner.place.step += 1
            learner.batch(learner.place.step)

        return _waiting(step, place), batch
    from PIL import Image

    from crosshape.benchmark.scripts import picture_batch
    from crosshape.learning.augment import augment_points, augment_views

    folder, random = _folder(), np.random.default_rng(0)
    for row in range(shapes):
        np.save(folder / f"{row:05d}.npy", _on_cpu(learner.points[row]))
        for view in range(4):
            Image.fromarray(_on_cpu(learner.views[row, view])).save(folder / f"{row:05d}_{view:02d}.png")

    def plain() -> None:
        rows = random.permutation(shapes)[:batch]
        first, second = random.integers(4, size=(2, batch))
        clouds, *views = picture_batch(folder, rows, first, second)
        augment_points(torch.from_numpy(clouds).to(place), points, "paper", learner.generator)
        for view in views:
            augment_views(torch.from_numpy(view).to(place), "paper", learner.generator)

    return _waiting(plain, place), batch


def rendering(side: str, faces: int, size: int, device: str, threads: int | None = None) -> Work:
    """12 views of a mesh, no supersampling."""
    from crosshape.benchmark.scripts import mesh_library, render
    from crosshape.shapes.views import render_mesh

    vertices, corners = a_mesh(faces)
    if side == "ours":
        count = threads or _threads()
        return lambda: render_mesh(vertices, corners, size=size, supersample=1, threads=count) and None, 1
    library = mesh_library()
    return lambda: render(vertices, corners, 12, size, library) is None, 1


def add_shapes(side: str, folder: str | None, count: int, device: str) -> Work:
    """Files into a new library: read, guarded, sampled, rendered, written; plain: a script over trimesh."""
    import shutil

    from crosshape.benchmark.scripts import mesh_library, prepare
    from crosshape.library.adding import add
    from crosshape.shapes.files import find_shapes
    from crosshape.shapes.made import CLASSES, write_shapes

    if side == "plain":
        mesh_library()
    own = _folder()
    source, target = own / "shapes", own / "out"
    source.mkdir()
    if folder is None:
        write_shapes(source, max(1, count // len(CLASSES)))
        files = [found.path for found in find_shapes(source)]
    else:
        every = [found.path for found in find_shapes(folder)]
        files = every[:: max(1, len(every) // count)][:count]
        if not files:
            raise Absent(f"{folder} holds no shapes")
        for i, path in enumerate(files):
            shutil.copyfile(path, source / f"{i:05d}{path.suffix}")
        files = sorted(source.iterdir())

    def ours() -> int:
        shutil.rmtree(target, ignore_errors=True)
        return len(add(source, target, workers=_threads()))

    def plain() -> int:
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        done = 0
        for path in files:
            try:
                prepare(path, target, 2048, 12, 224, 2)
                done += 1
            except Exception as error:  # what a script's library throws is no part of this
                print(f"{path.name}: {error}")
        return done

    return (ours if side == "ours" else plain), len(files)


def large_mesh(side: str, faces: int, device: str) -> Work:
    """One large OFF file, read, sampled and rendered, in one process."""
    from crosshape.benchmark.scripts import mesh_library, prepare
    from crosshape.shapes.prepare import prepare_file

    if side == "plain":
        mesh_library()
    own = _folder()
    path, target = own / "large.off", own / "out"
    target.mkdir()
    vertices, corners = a_mesh(faces)
    with path.open("w") as file:
        file.write(f"OFF\n{len(vertices)} {len(corners)} 0\n")
        file.writelines(f"{x:.6f} {y:.6f} {z:.6f}\n" for x, y, z in vertices)
        file.writelines(f"3 {i} {j} {k}\n" for i, j, k in corners)
    del vertices, corners

    def ours() -> None:
        prepare_file(path)

    def plain() -> None:
        prepare(path, target, 2048, 12, 224, 2)

    return (ours if side == "ours" else plain), 1


def searching(side: str, count: int, device: str) -> Work:
    """The ten nearest of many vectors of 512 numbers."""
    from crosshape.benchmark.scripts import full_sort
    from crosshape.search.query import best
    from crosshape.tasks.retrieval import unit

    random = np.random.default_rng(0)
    gallery = random.normal(size=(count, 512)).astype(np.float32)
    queries, directions = unit(random.normal(size=(8, 512)).astype(np.float32)), unit(gallery)
    if side == "ours":
        return lambda: [best(directions @ query, 10) for query in queries] and None, len(queries)
    return lambda: [full_sort(directions, query, 10) for query in queries] and None, len(queries)


def _folder() -> Path:
    """A folder that is there as long as this process."""
    import atexit

    kept = tempfile.TemporaryDirectory(prefix="crosshape-benchmark-")
    atexit.register(kept.cleanup)
    return Path(kept.name)


def _threads() -> int:
    import os

    return int(os.environ.get("OMP_NUM_THREADS", "0")) or os.cpu_count() or 1


def neighbours(
    side: str, points: int, channels: int, batch: int, device: str, crowd: int | None = None
) -> Work:
    """The search for neighbours alone, in space from `crowd` points by a grid (for the table of growth)."""
    import torch

    from crosshape.networks import neighbours

    place = _ready(side, device)
    neighbours.CROWD = neighbours.CROWD if crowd is None else crowd
    clouds = torch.from_numpy(some_clouds(batch, points)).to(place)
    x = clouds if channels == 3 else (clouds @ torch.randn(3, channels, device=place)).sin()
    return _waiting(lambda: neighbours.nearest_neighbours(x, 20), place), batch


def guarding(side: str, device: str) -> Work:
    """What the guard adds to a file: as many bytes as a shape prepared in a child, there and back."""
    if side == "plain":
        raise Absent("the guard has no plain form; one over its rate is what it adds to a file")
    import atexit

    from crosshape.shapes.guard import Guard

    guard = Guard(1)
    atexit.register(guard.close)

    def calls() -> None:
        for _ in range(200):
            guard.call(as_prepared, 0)

    return calls, 200


def as_prepared(fill: int) -> tuple[np.ndarray, np.ndarray]:
    """Arrays of the size of 2,048 points with normals and 12 views of 224 x 224."""
    return np.full((2048, 6), fill, np.float32), np.full((12, 224, 224), fill, np.uint8)
