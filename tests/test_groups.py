"""Groups: dense places are found, the typical shape is in the middle, the map is the same every time."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_library import fill

from crosshape.cli import main
from crosshape.errors import UsageError
from crosshape.library.library import Library, create_library, open_library
from crosshape.search.groups import gathered, group, leading, placed
from crosshape.settings import PrepareSettings


@pytest.fixture(scope="module")
def clustered(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """Three tight groups of 30, 20 and 10 shapes, and 6 far from everything."""
    random = np.random.default_rng(1)
    sizes = (30, 20, 10)
    names = [f"{'abc'[g]}/{i:02d}.obj" for g, size in enumerate(sizes) for i in range(size)]
    names += [f"x/{i}.obj" for i in range(6)]
    library = create_library(
        tmp_path_factory.mktemp("groups") / "parts.lance", PrepareSettings(points=8, views=2, image_size=8)
    )
    fill(library, names)
    middles = random.normal(size=(9, 512))
    which = np.repeat(range(9), [*sizes, 1, 1, 1, 1, 1, 1])
    vectors = (middles[which] + 0.15 * random.normal(size=(66, 512))).astype(np.float32)
    library.write_features("aaaa1111", names, vectors, np.stack([vectors, vectors], axis=1))
    return library


def test_dense_places_are_found(clustered: Library) -> None:
    found = group(clustered)
    assert [one.typical[0] for one in found.groups] == ["a", "b", "c"]
    for one, size in zip(found.groups, (30, 20, 10), strict=True):
        own = [name for name in one.names if name[0] == one.typical[0]]
        assert len(own) >= size - 1 and len(one.names) <= size + 2
    assert len(found.alone) >= 4 and sum(name[0] == "x" for name in found.alone) >= 4
    assert found.places.shape == (66, 2) and found.places.min() == 0 and found.places.max() == 1


def test_a_number_of_groups_can_be_asked_for(clustered: Library) -> None:
    found = group(clustered, count=9, over="points")
    assert len(found.groups) == 9 and not found.alone
    assert sorted(len(one.names) for one in found.groups) == [1] * 6 + [10, 20, 30]


def test_groups_are_as_large_as_is_asked_for(clustered: Library) -> None:
    found = group(clustered, least=15)
    assert len(found.groups) == 2 and all(len(one.names) >= 15 for one in found.groups)


def test_shapes_are_grouped_by_what_is_asked_for(tmp_path: Path, random: np.random.Generator) -> None:
    library = create_library(tmp_path / "parts.lance", PrepareSettings(points=8, views=2, image_size=8))
    names = [f"{i:02d}.obj" for i in range(20)]
    fill(library, names)
    points, views = 0.05 * random.normal(size=(2, 20, 512)).astype(np.float32)
    points[:10, 0], points[10:, 1], views[::2, 0], views[1::2, 1] = 9, 9, 9, 9
    library.write_features("aaaa1111", names, points, np.stack([views, views], axis=1))
    halves = {"points": (names[:10], names[10:]), "views": (names[::2], names[1::2])}
    for over, expected in halves.items():
        found = group(library, over=over, count=2).groups
        assert sorted(sorted(one.names) for one in found) == list(map(list, expected))


def test_the_typical_shape_is_the_one_nearest_to_all() -> None:
    places = np.array([[0.0], [1.0], [1.1], [3.0], [9.0]])
    groups, alone = gathered(np.array([0, 0, 0, 0, -1]), places, ["a", "b", "c", "d", "e"])
    assert [one.typical for one in groups] == ["b"] and alone == ["e"]
    assert groups[0].names == ["b", "c", "a", "d"]


def test_leading_directions_keep_distances(random: np.random.Generator) -> None:
    vectors = (random.normal(size=(40, 3)) @ random.normal(size=(3, 60))).astype(np.float32)
    flat = leading(vectors, 24)

    def between(x: np.ndarray) -> np.ndarray:
        return np.linalg.norm(x[:, None] - x[None], axis=2)

    assert np.allclose(between(flat), between(vectors), atol=1e-3)


def test_the_map_is_the_same_every_time(random: np.random.Generator) -> None:
    places = random.normal(size=(40, 6)).astype(np.float32)
    assert np.array_equal(placed(places), placed(places))
    assert placed(places[:2]).shape == (2, 2)


@pytest.mark.parametrize(
    ("choices", "text"),
    [
        ({"least": 1}, "--least is 1; it must be 2 or more"),
        ({"count": 67}, "--count is 67; it must be 1 to 66, the number of shapes"),
        ({"over": "all"}, "over is 'all'; it must be one of points, views, both"),
    ],
)
def test_wrong_usage(clustered: Library, choices: dict, text: str) -> None:
    with pytest.raises(UsageError) as error:
        group(clustered, **choices)
    assert str(error.value) == text


def test_the_command_prints_groups_and_writes_a_page(
    embedded_library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "groups.html"
    assert main(["group", str(embedded_library.path), "--count", "3", "--json", "--html", str(path)]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [list(row) for row in rows] == [["group", "typical", "size", "names"]] * 3
    assert sum(row["size"] for row in rows) == 12
    assert path.read_text().count("data:image/png;base64,") == 24


def test_shapes_without_features_are_left_out_and_said(
    clustered: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(clustered.path, tmp_path / "parts.lance")
    library = open_library(tmp_path / "parts.lance")
    fill(library, ["a/new.obj", "z.obj"])
    found, before = group(library), group(clustered)
    assert found.groups == before.groups and found.alone == before.alone
    assert found.names == clustered.names and np.array_equal(found.places, before.places)
    page = tmp_path / "groups.html"
    assert main(["group", str(library.path), "--html", str(page)]) == 1
    out, err = capsys.readouterr()
    assert "2 of 68 shapes are left out" in err and f"{len(before.groups)} groups of 66 shapes" in err
    assert "new.obj" not in out and "2 of 68 shapes are left out" in page.read_text()


@pytest.mark.parametrize("count", [20, 40, 100])
def test_shapes_that_are_all_the_same_have_a_place(tmp_path: Path, count: int) -> None:
    """In a child: t-SNE died of them, and Python with it."""
    code = (
        "import numpy as np\nfrom crosshape.search.groups import placed\nfrom crosshape.page.layout import spread\n"
        f"one = np.repeat(np.full((1, 10), 0.3, np.float32), {count}, axis=0)\n"
        "assert placed(np.zeros_like(one)).shape == spread(one).shape == (len(one), 2)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_the_typical_shape_of_many_is_found_in_blocks(random: np.random.Generator) -> None:
    places = random.normal(size=(9000, 3)).astype(np.float32)
    (one,), _ = gathered(np.zeros(9000, int), places, [f"{i:04d}" for i in range(9000)])
    some = places[:: 9000 // 512]
    away = [float(np.linalg.norm(place - some, axis=1).sum()) for place in places]
    assert one.typical == f"{int(np.argmin(away)):04d}"
