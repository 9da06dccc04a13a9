"""Duplicates: alignment against references, every kind on known copies, nothing on shapes that merely look alike."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import trimesh
from scipy.spatial.transform import Rotation

from crosshape.cli import main
from crosshape.commands.duplicates import write_csv, write_pairs
from crosshape.console import Progress
from crosshape.errors import UnreadableShape
from crosshape.library.adding import add
from crosshape.library.library import Library, create_library
from crosshape.library.notes import marks_file
from crosshape.search import copies
from crosshape.search.alignment import (
    Pose,
    Surface,
    axis_turns,
    coarse,
    distances,
    spin,
    surface_moments,
    to_triangles,
)
from crosshape.search.duplicates import (
    KINDS,
    SAME,
    Measured,
    Pair,
    file_surface,
    find_duplicates,
    judge,
    lay,
    unit_name,
)
from crosshape.settings import Limits, PrepareSettings
from crosshape.shapes.files import load_shape
from crosshape.shapes.made import make_shape, write_shape
from crosshape.shapes.surface import sample_surface
from crosshape.sheets import safe_cell

SETTINGS = PrepareSettings(points=1024, views=1, image_size=16)


def surface(label: str, seed: int, folder: Path, turn: np.ndarray | None = None) -> Surface:
    made = make_shape(label, seed)
    path = folder / f"{label}{seed}.stl"
    write_shape(made, path)
    shape = load_shape(path)
    found = file_surface(str(path), shape.content_hash, "auto", Limits())
    assert found is not None and found.triangles is not None
    if turn is None:
        return found
    return Surface(
        (found.points @ turn.T).astype(np.float32),
        (found.normals @ turn.T).astype(np.float32),
        (found.triangles @ turn.T).astype(np.float32),
    )


def test_distance_to_triangles_agrees_with_trimesh(random: np.random.Generator) -> None:
    import trimesh

    points, triangles = random.normal(size=(500, 3)), random.normal(size=(500, 3, 3))
    triangles[::7, 2] = triangles[::7, 1]  # some are lines
    near = trimesh.triangles.closest_point(triangles, points)
    assert np.allclose(to_triangles(points, triangles), np.linalg.norm(points - near, axis=1), atol=1e-9)


def test_the_turns_of_the_axes_are_a_group() -> None:
    turns = axis_turns()
    known = {tuple(turn.ravel().astype(int)) for turn in turns}
    assert len(known) == 24 and np.allclose(np.linalg.det(turns), 1)
    assert all(tuple((a @ b).ravel().astype(int)) in known for a in turns for b in turns)


@pytest.mark.parametrize("label", ["mug", "bolt", "chair"])
def test_a_turn_is_recovered(label: str, tmp_path: Path) -> None:
    turn = Rotation.random(random_state=3).as_matrix()
    a = surface(label, 1, tmp_path)
    b = surface(label, 1, tmp_path, turn)
    # Other samples of the surfaces stand for what a library has.
    few = [Surface(s.points[n : n + 1024], s.normals[n : n + 1024]) for s, n in ((a, 0), (b, 2048))]
    away, poses = coarse(*few)
    assert away < 1.3
    pose, distance, _ = lay(a, b, poses)
    assert distance < 1e-4 and not pose.mirrored
    assert max(np.quantile(d, 0.99) for d in distances(a, b, pose)) == pytest.approx(distance)


@pytest.mark.parametrize("seed", [5, 6])
def test_what_is_not_symmetric_is_told_from_its_mirror_image(seed: int, tmp_path: Path) -> None:
    """A mug that leans over has a hand."""
    a = surface("mug", 1, tmp_path)
    skew = np.array([[1, 0.3, 0.2], [0, 1, 0.25], [0, 0, 1]])
    a = Surface((a.points @ skew).astype(np.float32), a.normals, (a.triangles @ skew).astype(np.float32))
    normals = np.cross(a.triangles[:, 1] - a.triangles[:, 0], a.triangles[:, 2] - a.triangles[:, 0])
    a = Surface(
        a.points, normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9), a.triangles
    )
    flip = np.diag([-1.0, 1, 1]) @ Rotation.random(random_state=seed).as_matrix()
    b = Surface(a.points @ flip.T, a.normals @ flip.T, a.triangles @ flip.T)
    few = [Surface(s.points[n : n + 1024], s.normals[n : n + 1024]) for s, n in ((a, 0), (b, 2048))]
    pose, distance, _ = lay(a, b, coarse(*few)[1])
    assert pose.mirrored and distance < SAME
    assert np.allclose(pose.turn, flip, atol=0.01)


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Library:
    """A chair, a bolt, a mug and another chair; of the first three a copy of each kind."""
    folder = tmp_path_factory.mktemp("copied")
    for number, (label, seed) in enumerate((("chair", 0), ("bolt", 1), ("mug", 2), ("chair", 7))):
        place = folder / "shapes" / str(number)
        place.mkdir(parents=True)
        path = write_shape(make_shape(label, seed), folder / f"{number}.obj") or folder / f"{number}.obj"
        shape = load_shape(path)
        if number < 3:
            copies.copies_of((str(path), shape.content_hash, str(place), number), "auto", Limits())
        else:
            shutil.copy(path, place / "0-original.obj")
    return add(folder / "shapes", folder / "copies.lance", settings=SETTINGS, workers=1)


@pytest.fixture(scope="module")
def groups(copied: Library):
    return find_duplicates(copied, workers=1)


def test_every_kind_is_found_and_nothing_else(groups) -> None:
    pairs = [pair for group in groups for pair in group.pairs]
    assert all(pair.a.split("/")[0] == pair.b.split("/")[0] for pair in pairs)
    assert {group.representative.split("/")[0] for group in groups} == {"0", "1", "2"}
    order = list(KINDS)
    kinds = {pair.b.split(".")[0]: pair.kind for pair in pairs if "0-original" in pair.a}
    for number in range(3):
        for kind in order[:5]:
            found = kinds[f"{number}/{kind}"]
            assert order.index(found) <= order.index(kind)
            if kind in ("identical", "re-exported", "scaled"):
                assert found == kind
        assert f"{number}/re-meshed" in kinds
    for pair in pairs:
        if pair.kind == "scaled":
            assert pair.units and pair.units == unit_name(pair.scale)


def test_a_file_that_is_gone_is_measured_by_its_samples(copied: Library, tmp_path: Path) -> None:
    folder = Path(copied.facts()["path"][0].as_py()).parents[1]
    for name in ("0/0-original.obj", "2/0-original.obj"):
        (tmp_path / name).parent.mkdir(parents=True)
        shutil.copy(folder / name, tmp_path / name)
    turned = next((folder / "0").glob("moved.*"))
    shutil.copy(turned, tmp_path / "0" / turned.name)
    library = add(tmp_path, tmp_path / "parts.lance", settings=SETTINGS, workers=1)
    (tmp_path / "0" / turned.name).unlink()
    (group,) = find_duplicates(library, workers=1)
    (pair,) = group.pairs
    assert pair.sampled and pair.evidence().endswith("(by samples)")
    assert pair.kind in ("moved", "re-exported", "re-meshed")


def test_no_shapes_and_one(tmp_path: Path, copied: Library) -> None:
    empty = create_library(tmp_path / "empty.lance", SETTINGS)
    assert find_duplicates(empty) == []
    first = copied.facts()["path"][0].as_py()
    assert find_duplicates(add(first, tmp_path / "one.lance", settings=SETTINGS, workers=1)) == []


@pytest.mark.parametrize(
    "words, reason",
    [
        (["--workers", "-1"], "--workers is -1; it must be 1 to 1,024."),
        (["--workers", "9999999"], "--workers is 9999999; it must be 1 to 1,024."),
        (["--seed", "-1", "--calibrate", "2"], "--seed is -1; it must be 0 to 9,223,372,036,854,775,807."),
        (["--kinds", ""], "--kinds names none; known are "),
    ],
)
def test_numbers_that_cannot_be(copied: Library, words: list[str], reason: str, capsys) -> None:
    assert main(["duplicates", str(copied.path), *words]) == 2
    assert capsys.readouterr().err.startswith(f"crosshape: {reason}")


def test_units_are_named() -> None:
    assert unit_name(25.4) == unit_name(1 / 25.4) == "inches and millimetres"
    assert unit_name(1000.001) == "metres and millimetres" and unit_name(3.3) == ""


def test_a_pose_tells_degrees() -> None:
    flip = np.diag([-1.0, 1, 1])
    for degrees in (0.0, 0.3, 40.0, 180.0):
        assert Pose(spin(2, degrees)).angle == pytest.approx(degrees, abs=1e-4)
        mirrored = Pose(spin(1, degrees) @ flip)
        assert mirrored.mirrored and mirrored.angle == pytest.approx(degrees, abs=1e-4)


def test_a_copy_is_scaled_by_what_the_first_is_multiplied_with() -> None:
    facts = {"name": "a", "faces": 100, "area": 1.0, "radius": 1.0, "centre": (1.0, 0.0, 0.0)}
    other = {**facts, "name": "b", "area": 25.4**2, "radius": 25.4, "centre": (25.4, 0.0, 0.0)}
    for one, two, scale in ((facts, other, 25.4), (other, facts, 1 / 25.4)):
        found = judge(one, two, Measured(Pose(np.eye(3)), 0.0, 0.0, SAME, False))
        assert found is not None and found.kind == "scaled" and found.scale == pytest.approx(scale)
        assert (found.units, found.shift) == ("inches and millimetres", pytest.approx(0))
        assert f"scaled by {scale:.6g}" in found.evidence()


def test_a_file_that_is_not_what_was_added_is_not_measured(tmp_path: Path) -> None:
    path = tmp_path / "a.stl"
    write_shape(make_shape("bolt", 1), path)
    before = load_shape(path).content_hash
    assert file_surface(str(path), before, "auto", Limits()) is not None
    write_shape(make_shape("bolt", 2), path)
    assert file_surface(str(path), before, "auto", Limits()) is None


def test_the_command_writes_tables_and_a_page(
    copied: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(tmp_path / name) for name in ("twice.csv", "twice.html")]
    words = [
        "duplicates",
        str(copied.path),
        "--workers",
        "1",
        "--json",
        "--csv",
        paths[0],
        "--html",
        paths[1],
    ]
    first, second = sorted(copied.names)[:2]
    said = {"a": first, "b": second, "mark": "different", "when": "2026-11-27"}
    marks_file(copied.path).write_text(json.dumps({"pairs": [said]}))
    assert main([*words, "--kinds", "identical,scaled"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(rows) == 6 and {row["kind"] for row in rows} == {"identical", "scaled"}
    keys = ["kind", "a", "b", "distance", "scale", "units", "angle", "mirrored", "shift", "sampled"]
    assert list(rows[0]) == [*keys, "group", "path_a", "bytes_a", "path_b", "bytes_b", "mark", "evidence"]
    facts = {row["name"]: row for row in copied.facts().to_pylist()}
    for row in rows:
        assert row["path_a"] == facts[row["a"]]["path"] and row["bytes_b"] == facts[row["b"]]["bytes"]
        assert row["mark"] == ("different" if {row["a"], row["b"]} == {first, second} else None)
    assert len({row["group"] for row in rows}) > 1
    with open(paths[0], newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["b"] for row in table] == [row["b"] for row in rows] and list(table[0]) == list(rows[0])
    text = Path(paths[1]).read_text()
    assert text.count("data:image/png;base64,") == 9 and "http:" not in text
    assert main(["duplicates", str(copied.path), "--kinds", "same"]) == 2
    assert capsys.readouterr().err == f"crosshape: --kinds names 'same'; known are {', '.join(KINDS)}\n"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "\rx"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert safe_cell(text) == "'" + text
    assert safe_cell(-1.5) == -1.5 and safe_cell("a=b") == "a=b"


def test_scores_count_what_they_say() -> None:
    from crosshape.search.duplicates import Group

    names = {
        f"0000{i}/{kind}.stl" for i in range(2) for kind in ("0-original", "moved", "mirrored", "scaled")
    }
    groups = [
        Group(
            "00000/0-original.stl",
            [
                Pair("00000/0-original.stl", "00000/moved.stl", "moved"),
                Pair("00000/0-original.stl", "00000/mirrored.stl", "moved"),
                Pair("00000/0-original.stl", "00001/scaled.stl", "scaled"),
            ],
        ),
        Group("00001/0-original.stl", [Pair("00001/0-original.stl", "00001/moved.stl", "re-meshed")]),
    ]
    scores, across = copies.count_scores(groups, ["x.obj", "y.obj"], names)
    by = {score.kind: score for score in scores}
    assert (by["moved"].made, by["moved"].found, by["moved"].looser, by["moved"].recall) == (2, 1, 1, 0.5)
    assert (by["mirrored"].simpler, by["mirrored"].recall) == (1, 0.5)
    assert (by["moved"].reported, by["moved"].wrong, by["moved"].precision) == (2, 0, 1.0)
    assert (by["scaled"].reported, by["scaled"].wrong, by["scaled"].precision) == (1, 1, 0.0)
    assert across == ["x.obj  y.obj  (scaled)"]


@pytest.mark.slow
def test_calibration_of_made_shapes(
    made_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library = add(made_folder, tmp_path / "parts.lance", settings=SETTINGS, workers=1)
    assert main(["duplicates", str(library.path), "--calibrate", "6", "--json", "--workers", "1"]) == 0
    scores = {row["kind"]: row for row in map(json.loads, capsys.readouterr().out.splitlines())}
    assert list(scores) == list(KINDS)
    assert all(score["wrong"] == 0 for score in scores.values())
    assert min(scores[kind]["recall"] for kind in list(KINDS)[:5]) >= 0.95


def test_moments_of_a_surface_are_exact(tmp_path: Path) -> None:
    """Against a fine sample, and for a square of side 2 by hand: x^2 has the mean 1/3."""
    a = surface("chair", 3, tmp_path)
    assert a.moments is not None
    assert np.allclose(a.moments, np.einsum("ni,nj->ij", a.points[:6144], a.points[:6144]) / 6144, atol=0.01)
    square = np.array([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    moments = surface_moments(square, np.array([[0, 1, 2], [0, 2, 3]]))
    assert np.allclose(moments, np.diag([1 / 3, 1 / 3, 0]))


@pytest.mark.parametrize(
    ("faces", "area", "distance", "kind"),
    [
        (100, 1.0, 0.0019, "moved"),
        (100, 1.0, 0.0039, "moved"),  # as many faces, equal areas: what is left is in the measuring
        (100, 1.0015, 0.0039, "changed"),
        (100, 1.0015, 0.0019, "moved"),
        (100, 1.005, 0.0001, "changed"),
        (90, 1.0, 0.0019, "re-meshed"),
        (90, 1.0, 0.019, "re-meshed"),
        (90, 1.0, 0.1, "changed"),
        (90, 1.0, 0.13, None),
        (90, 2.0, 0.01, None),
    ],
)
def test_what_was_measured_decides(faces: int, area: float, distance: float, kind: str | None) -> None:
    facts = {"name": "a", "faces": 100, "area": 1.0, "radius": 1.0, "centre": (0.0, 0.0, 0.0)}
    other = {**facts, "name": "b", "faces": faces, "area": area, "centre": (1.0, 0.0, 0.0)}
    found = judge(facts, other, Measured(Pose(np.eye(3)), distance, 0.01, SAME, False))
    assert (found.kind if found else None) == kind


@pytest.mark.parametrize("count", [300, 500])
def test_copies_of_clouds_with_fewer_points_than_the_library_takes_are_found(
    tmp_path: Path, count: int
) -> None:
    """Points are repeated there, so that most are at no distance from another."""
    for number, label in enumerate(("chair", "mug")):
        shape = make_shape(label, number)
        cloud = sample_surface(shape.vertices, shape.faces, count, number)[0]
        np.save(tmp_path / f"{number}.npy", cloud)
        np.save(tmp_path / f"{number}-moved.npy", cloud @ spin(2, 40).T + [3, 1, 2])
    settings = dataclasses.replace(SETTINGS, points=1024)
    found = find_duplicates(add(tmp_path, tmp_path / "parts.lance", settings=settings, workers=1), workers=1)
    pairs = [(pair.a, pair.b, pair.kind) for group in found for pair in group.pairs]
    assert sorted(pairs) == [(f"{n}-moved.npy", f"{n}.npy", "moved") for n in (0, 1)]


@pytest.mark.parametrize("embedded", [False, True])
def test_candidates_in_blocks_are_those_of_a_plain_loop(
    random: np.random.Generator, monkeypatch, embedded: bool
) -> None:
    import crosshape.search.duplicates as room

    points = random.normal(size=(90, 64, 3)).astype(np.float32) * random.uniform(0.3, 0.5, (90, 1, 3))
    points[40:60] = points[:20] + random.normal(size=(20, 64, 3)) * 0.002
    facts = [{"area": float(a), "radius": 1.0, "faces": int(a > 1.05)} for a in random.uniform(1, 2, 90)]
    features = random.normal(size=(90, 1024)).astype(np.float32) if embedded else None
    whole = room.candidates(facts, points, features)
    monkeypatch.setattr(room, "CELLS", 90 * 16)
    assert np.array_equal(room.candidates(facts, points, features), whole) and len(whole) > 20
    known = set(map(tuple, whole.tolist()))
    assert sorted(known) == list(map(tuple, whole.tolist()))
    marks, area = room.invariants(facts, points)
    for a in range(90):
        for b in range(a + 1, 90):
            ratio = abs(area[a] - area[b])
            if np.abs(marks[a] - marks[b]).max() < 0.05 and not ratio >= 0.01:
                assert (a, b) in known


@pytest.mark.parametrize("passes", [0, 3, 1000])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 1.0])
def test_every_copy_stays_with_the_first_shape_it_is_a_copy_of(
    share: float, passes: int, random: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    import crosshape.search.duplicates as room

    count = 40
    pairs = np.stack(np.triu_indices(count, 1), axis=1)
    pairs = pairs[random.random(len(pairs)) < (1 if share == 1 else 0.5)]
    copy = {pair for pair in map(tuple, pairs.tolist()) if random.random() < share}
    near = copy | {pair for pair in map(tuple, pairs.tolist()) if random.random() < 0.2}
    aligned: list[tuple[int, int]] = []

    def coarse(a: int, b: int) -> tuple[float, list]:
        aligned.append((a, b))
        return (1.0 if (a, b) in near else 9.0), []

    monkeypatch.setattr(room, "PASSES", passes)
    monkeypatch.setattr(room, "coarse", coarse)
    monkeypatch.setattr(room, "_map", lambda guard, work, items: [(pair, None) for pair in reversed(items)])
    monkeypatch.setattr(
        room, "judge", lambda a, b, _: Pair(str(a), str(b), "moved") if (a, b) in copy else None
    )
    rows = {row: row for row in range(count)}
    found = room._compared(pairs, range(count), rows, range(count), "z", 1, Limits(), None)
    expected: dict[int, int] = {}
    for a, b in sorted(copy):
        if a not in expected:
            expected.setdefault(b, a)
    assert {b: a for a, b in found} == expected
    assert len(set(aligned)) == len(aligned) <= len(pairs)
    if share == 1 and passes:
        assert len(aligned) == count - 1


def test_shapes_with_the_most_alike_features_are_candidates(random: np.random.Generator) -> None:
    """20 shapes that are nearly the same but for their areas, which keep any two from being equal."""
    import crosshape.search.duplicates as room

    points = random.normal(size=(64, 3)) * 0.4 + random.normal(size=(20, 64, 3)) * 0.002
    facts = [{"area": np.exp(0.015 * number), "radius": 1.0, "faces": 9} for number in range(20)]
    features = random.normal(size=(20, 1024)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    nearest = np.argsort(2 * np.eye(20) - features @ features.T, axis=1)[:, : room.NEIGHBOURS]
    wanted = {(min(a, b), max(a, b)) for a in range(20) for b in nearest[a].tolist()}
    with_features, without = (room.candidates(facts, points, one) for one in (features, None))
    assert wanted <= set(map(tuple, with_features.tolist())) and not wanted <= set(
        map(tuple, without.tolist())
    )


def test_a_shape_that_names_other_files_is_not_copied_for_calibration(tmp_path: Path) -> None:
    path = tmp_path / "a.gltf"
    trimesh.creation.box().export(path)
    assert len(list(tmp_path.iterdir())) > 1
    shape = load_shape(path)
    with pytest.raises(UnreadableShape, match="it names other files"):
        copies.copies_of((str(path), shape.content_hash, str(tmp_path), 0), "auto", Limits())


def test_links_are_said_to_be_links(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    write_shape(make_shape("mug", 0), tmp_path / "parts" / "a.obj")
    (tmp_path / "parts" / "b.obj").symlink_to("a.obj")
    (tmp_path / "parts" / "c.obj").hardlink_to(tmp_path / "parts" / "a.obj")
    shutil.copy(tmp_path / "parts" / "a.obj", tmp_path / "parts" / "d.obj")
    library = add(tmp_path / "parts", tmp_path / "parts.lance", settings=SETTINGS, workers=1)
    (group,) = find_duplicates(library, workers=1)
    assert [(pair.b, pair.evidence()) for pair in group.pairs] == [
        ("b.obj", "one file under two names (a link)"),
        ("c.obj", "one file under two names (a link)"),
        ("d.obj", "the same bytes"),
    ]


@pytest.mark.parametrize("first", ["a.obj", "z.obj"])
def test_the_same_bytes_are_identical_whatever_the_names(first: str, tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    mesh = make_shape("bolt", 1)
    write_shape(mesh, parts / "b.obj")
    shutil.copy(parts / "b.obj", parts / "c.obj")
    shape = load_shape(parts / "b.obj")
    trimesh.Trimesh(shape.vertices * 25.4, shape.faces, process=False).export(parts / first)
    library = add(parts, tmp_path / "parts.lance", settings=SETTINGS, workers=1)
    (group,) = find_duplicates(library, workers=1)
    found = [(pair.kind, pair.a, pair.b) for pair in group.pairs]
    scaled = ("scaled", *sorted(["b.obj", first]))
    assert found == [("identical", "b.obj", "c.obj"), scaled]
    page = tmp_path / "twice.html"
    write_pairs(str(page), library, [group], ["identical"])
    text = page.read_text()
    assert text.count("data:image/png;base64,") == 2 and first not in text
    write_pairs(str(page), library, [group], list(KINDS))
    assert page.read_text().count("data:image/png;base64,") == (4 if first == "a.obj" else 3)


@pytest.mark.parametrize("step, what", [("coarse", "comparing"), ("_map", "comparing")])
def test_the_progress_line_ends_when_the_search_is_stopped(
    step: str, what: str, copied: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    import crosshape.search.duplicates as room

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    class Bar(Progress):
        def close(self) -> None:
            closed.append(self.what)

    closed: list[str] = []
    monkeypatch.setattr(room, step, stopped)
    with pytest.raises(KeyboardInterrupt):
        find_duplicates(copied, workers=1, progress=Bar)
    assert closed[-1] == what


def test_a_table_without_pairs_has_the_same_columns(tmp_path: Path) -> None:
    write_csv(str(tmp_path / "none.csv"), [])
    measured = "kind,a,b,distance,scale,units,angle,mirrored,shift,sampled"
    more = "group,path_a,bytes_a,path_b,bytes_b,mark,evidence"
    assert (tmp_path / "none.csv").read_text().splitlines() == [f"{measured},{more}"]
