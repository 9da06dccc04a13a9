"""Reading, features and removing, on libraries of random arrays."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
import pytest

from crosshape.errors import CrosshapeError, UsageError
from crosshape.library import library as rooms
from crosshape.library.adding import _table, encode_view
from crosshape.library.library import Library, create_library, open_library
from crosshape.settings import PrepareSettings

SETTINGS = PrepareSettings(points=16, views=3, image_size=8)


def row(name: str, settings: PrepareSettings = SETTINGS, content: str = "") -> dict[str, object]:
    """A row of random arrays that depend on name and content."""
    content = content or name
    rng = np.random.default_rng(list(f"{name}|{content}".encode()))
    size = settings.image_size
    return {
        "name": name,
        "path": f"/shapes/{name}",
        "content_hash": f"hash of {content}",
        "format": "obj",
        "bytes": 100,
        "faces": 12,
        "vertices": 8,
        "area": 6.0,
        "extents": (1.0, 1.0, 1.0),
        "centre": (0.5, 0.5, 0.5),
        "radius": 0.9,
        "notes": ("1 face dropped",),
        "modified": 1_700_000_000_000_000_000,
        "points": rng.normal(size=(settings.points, 3)).astype(np.float32),
        "normals": rng.normal(size=(settings.points, 3)).astype(np.float16),
        "views": [encode_view(rng.integers(0, 256, (size, size), np.uint8)) for _ in range(settings.views)],
    }


def fill(library: Library, names: list[str], content: str = "") -> None:
    library._merge(_table([row(name, library.settings, content) for name in names], library))


def features_for(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, 512)).astype(np.float32)
    return points, rng.normal(size=(count, SETTINGS.views, 512)).astype(np.float32)


NAMES = ["b/2.obj", "a/1.obj", "a/0.obj", "c/9.obj", "b/0.obj"]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    made = create_library(tmp_path / "parts.lance", SETTINGS)
    fill(made, NAMES[:3])
    fill(made, NAMES[3:])
    return made


def test_arrays_come_in_the_order_of_the_names(library: Library) -> None:
    assert library.names == sorted(NAMES) and len(library) == 5
    expected = np.stack([row(name)["points"] for name in library.names])
    assert np.array_equal(library.points(), expected)
    assert np.array_equal(library.points(["c/9.obj", "a/0.obj", "c/9.obj"]), expected[[4, 0, 4]])
    normals = np.stack([row(name)["normals"] for name in library.names])
    assert library.normals().dtype == np.float32
    assert np.array_equal(library.normals(), normals.astype(np.float32))
    pictures = library.views()
    assert pictures.shape == (5, 3, 8, 8) and pictures.dtype == np.uint8
    assert np.array_equal(library.views(["b/0.obj"])[0], pictures[2])
    assert library.view_png("b/0.obj", 1) == row("b/0.obj")["views"][1]
    assert library.points([]).shape == (0, 16, 3)


def test_smaller_views_are_means_over_areas(library: Library) -> None:
    whole = library.views().astype(float)
    half = library.views(size=4)
    means = whole.reshape(5, 3, 4, 2, 4, 2).mean((3, 5))
    assert np.abs(half - means).max() <= 0.5
    with pytest.raises(UsageError, match="views of 8 pixels; 9 cannot be made of them"):
        library.views(size=9)


def test_labels_are_first_folders(library: Library, tmp_path: Path) -> None:
    assert library.labels() == ["a", "a", "b", "b", "c"]
    flat = create_library(tmp_path / "flat.lance", SETTINGS)
    fill(flat, ["x.obj", "y.obj"])
    assert flat.labels() is None


def test_facts_are_sorted_and_light(library: Library) -> None:
    facts = library.facts()
    assert facts["name"].to_pylist() == library.names
    assert facts["notes"][0].as_py() == ["1 face dropped"]
    assert not {"points", "views", "feature_points"} & set(facts.column_names)


def test_training_arrays_in_memory_and_mapped_are_the_same(library: Library, tmp_path: Path) -> None:
    points, views = library.training_arrays(4)
    with pytest.raises(CrosshapeError, match="Choose a smaller image size, or a cache folder"):
        library.training_arrays(4, memory_limit=10)
    cache = tmp_path / "cache"
    for _ in range(2):
        mapped_points, mapped_views = library.training_arrays(4, cache, memory_limit=10)
        assert isinstance(mapped_views, np.memmap) and not mapped_views.flags.writeable
        assert np.array_equal(points, mapped_points) and np.array_equal(views, mapped_views)
    before = sorted(path.name for path in cache.iterdir())
    assert len(before) == 2
    library.write_features("aaaa1111", library.names, *features_for(5))
    library.training_arrays(4, cache, memory_limit=10)
    assert sorted(path.name for path in cache.iterdir()) == before  # features do not make a cache old
    fill(library, ["a/0.obj"], content="other")
    _, changed = library.training_arrays(4, cache, memory_limit=10)
    assert len(list(cache.iterdir())) == 4 and not np.array_equal(changed[0], views[0])


def test_a_cache_gives_arrays_of_the_size_and_the_settings_that_are_asked_for(
    library: Library, tmp_path: Path
) -> None:
    for size in (4, 8, 2):
        _, views = library.training_arrays(size, tmp_path / "cache", memory_limit=10)
        assert np.array_equal(views, library.views(size=size))
    other = create_library(tmp_path / "other.lance", PrepareSettings(16, 3, 8, supersample=4))
    fill(other, NAMES)
    assert other.names == library.names and other.content_key() != library.content_key()


def test_shapes_are_missing_from_the_folder_they_came_from(library: Library, tmp_path: Path) -> None:
    assert library.missing() == library.missing("/shapes") == library.missing("/shapes/") == library.names
    assert library.missing("/shapes/a") == ["a/0.obj", "a/1.obj"]
    assert library.missing("/shape") == library.missing(tmp_path) == []


def test_what_may_not_be_looked_at_is_not_gone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    gone = {name: rooms._is_gone(str(tmp_path / name)) for name in ("file", "loop", "none", "file/below")}
    assert gone == {"file": False, "loop": False, "none": True, "file/below": True}


def test_features_round_trip_and_rewrite_only_their_columns(library: Library) -> None:
    def other_files() -> dict[str, list[int]]:
        files = [file for fragment in library.dataset.get_fragments() for file in fragment.data_files()]
        return {file.path: file.fields for file in files}

    before = other_files()
    version = library.version
    points, views = features_for(5)
    assert library.write_features("aaaa1111", library.names, points, views) == 5
    assert library.version == version + 1
    assert set(before) < set(other_files())  # points and views stay in the files they were in
    features = library.features("aaaa1111")
    assert features.names == library.names and features.model == "aaaa1111"
    assert np.array_equal(features.points, points)
    assert np.array_equal(features.views, views.max(1))
    assert np.array_equal(features.each_view, views)
    assert np.array_equal(open_library(library.path).features().points, points)
    assert np.array_equal(library.points(), np.stack([row(name)["points"] for name in library.names]))


def test_what_features_say_when_they_are_not_what_was_asked(library: Library) -> None:
    path = library.path
    with pytest.raises(CrosshapeError) as error:
        library.features()
    assert str(error.value) == f"{path} has no features yet. Make them: crosshape embed RUN {path}"
    library.write_features("3f9a0000", library.names, *features_for(5))
    with pytest.raises(CrosshapeError) as error:
        library.features("77c10000", run="runs/parts")
    assert str(error.value) == (
        f"{path} was embedded by model 3f9a0000, this run is 77c10000. "
        f"Embed again: crosshape embed runs/parts {path}"
    )
    fill(library, ["a/1.obj"], content="changed")  # its features are gone
    assert library.without_features("3f9a0000") == ["a/1.obj"]
    with pytest.raises(CrosshapeError) as error:
        library.features()
    assert str(error.value) == (
        f"{path} was embedded only in part: 4 of 5 shapes by model 3f9a0000, 1 not yet. "
        f"Finish it: crosshape embed RUN {path}"
    )
    library.write_features("77c10000", ["a/1.obj", "a/0.obj"], *features_for(2))
    with pytest.raises(CrosshapeError, match="3 of 5 shapes by model 3f9a0000, 2 by 77c10000"):
        library.features("3f9a0000")


def test_features_of_old_content_are_never_written(library: Library) -> None:
    old = open_library(library.path)
    fill(library, ["a/1.obj"], content="changed")
    library.remove(["c/9.obj"])
    assert old.write_features("aaaa1111", old.names, *features_for(5)) == 3
    assert open_library(library.path).without_features("aaaa1111") == ["a/1.obj"]


def test_features_that_are_not_finite_are_refused(library: Library) -> None:
    points, views = features_for(5)
    views[2, 1, 7] = np.nan
    with pytest.raises(CrosshapeError, match="model aaaa1111 gives features that are not finite"):
        library.write_features("aaaa1111", library.names, points, views)
    with pytest.raises(UsageError, match=r"features of shape \(4, 512\)"):
        library.write_features("aaaa1111", library.names, points[:4], views)
    assert set(open_library(library.path).models()) == {None}


def test_remove_by_name_and_by_folder(library: Library) -> None:
    with pytest.raises(CrosshapeError) as error:
        library.remove(["a/0.obj", "a/11.obj"])
    assert str(error.value) == (f"there is no shape 'a/11.obj' in {library.path}; did you mean 'a/1.obj'?")
    assert len(open_library(library.path)) == 5  # nothing was removed before the error
    assert library.remove(["a/0.obj", "b/"]) == ["a/0.obj", "b/0.obj", "b/2.obj"]
    assert library.names == ["a/1.obj", "c/9.obj"] == open_library(library.path).names
    assert np.array_equal(library.points()[1], row("c/9.obj")["points"])


def test_names_with_quotes_are_names(library: Library) -> None:
    odd = ["a/o'1.obj", 'a/"2.obj', "a/%3\\.obj", "a/ünï—4.obj", "a/') OR (name != '.obj"]
    fill(library, odd)
    assert library.remove(odd[:1] + odd[-1:]) == sorted(odd[:1] + odd[-1:])
    assert len(library) == 8


def held_bytes(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_forgotten_shapes_leave_no_bytes_behind(library: Library) -> None:
    secret = row("a/SECRETNAME.obj")
    marker = secret["points"].tobytes()[:64]
    picture = secret["views"][0]
    fill(library, ["a/SECRETNAME.obj", *(f"d/{i}.obj" for i in range(4))])
    points, views = features_for(len(library))
    at = library.names.index("a/SECRETNAME.obj")
    library.write_features("aaaa1111", library.names, points, views)
    library.write_features("bbbb1111", library.names, points + 1, views)
    fill(library, ["a/SECRETNAME.obj"], content="second")
    library.remove(["a/SECRETNAME.obj"])
    signs = [b"SECRETNAME", marker, picture[40:], points[at].tobytes()[:64]]
    assert all(sign in held_bytes(library.path) for sign in signs)  # older versions still have it
    fill(library, ["a/SECRETNAME.obj"])
    for left in (
        "data/01010.lance",
        "data/.tmpQJESZV",
        "_versions/99.manifest#1",
        "_transactions/.tmp70NuPh",
    ):
        (library.path / left).write_bytes(b"SECRETNAME")  # by killed writers
    library.remove(["a/SECRETNAME.obj"], forget=True)
    found = [sign[:16] for sign in signs if sign in held_bytes(library.path)]
    assert not found
    again = open_library(library.path)
    assert len(again) == 9
    assert np.array_equal(again.points(["b/0.obj"])[0], row("b/0.obj")["points"])
    assert len(again.dataset.versions()) == 1


def test_forget_waits_for_no_writer_and_writers_wait_for_no_forget(library: Library) -> None:
    busy = pytest.raises(CrosshapeError, match="another process is writing to it")
    with rooms.writing(library.path), rooms.writing(library.path), busy:
        library.remove(["a/0.obj"], forget=True)
    busy = pytest.raises(CrosshapeError, match="another process is removing from it for good")
    with rooms.writing(library.path, alone=True), busy:
        library.write_features("aaaa1111", library.names, *features_for(5))
    assert len(library) == 5


def test_small_fragments_are_merged(tmp_path: Path) -> None:
    library = create_library(tmp_path / "parts.lance", SETTINGS)
    for i in range(rooms.MANY):
        fill(library, [f"{i:02}.obj"])
    library.tidy()
    assert len(library.dataset.get_fragments()) == 1
    assert np.array_equal(library.points(), np.stack([row(name)["points"] for name in library.names]))


def test_holes_are_closed_when_there_are_many(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "BLOCK", 2)
    library.remove(["a/0.obj"])
    assert sum(fragment.num_deletions for fragment in library.dataset.get_fragments()) == 1
    library.remove(["a/1.obj", "b/0.obj"])
    assert sum(fragment.num_deletions for fragment in library.dataset.get_fragments()) == 0
    assert np.array_equal(library.points(), np.stack([row(name)["points"] for name in library.names]))


def test_a_version_stays_for_its_readers_and_goes_in_time(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.write_features("aaaa1111", library.names, *features_for(5))
    reader = open_library(library.path)
    features = reader.features()
    library.write_features("bbbb1111", library.names, *features_for(5, seed=1))
    assert np.array_equal(features.each_view, features_for(5)[1])  # read from the old version's files
    assert len(library.dataset.versions()) == 5
    files = len(list((library.path / "data").iterdir()))
    monkeypatch.setattr(rooms, "KEEP", rooms.timedelta(0))
    library.tidy()
    assert len(library.dataset.versions()) == 1
    assert len(list((library.path / "data").iterdir())) < files
    assert np.array_equal(open_library(library.path).features().each_view, features_for(5, seed=1)[1])


def test_features_of_each_view_are_of_the_version_that_the_others_are_of(library: Library) -> None:
    points, views = features_for(5)
    library.write_features("aaaa1111", library.names, points, views)
    features = library.features()
    open_library(library.path).remove(["a/0.obj"])
    fill(library, ["a/2.obj"])
    assert library.names == ["a/1.obj", "a/2.obj", "b/0.obj", "b/2.obj", "c/9.obj"]
    assert np.array_equal(features.points, points) and np.array_equal(features.each_view, views)


def test_features_of_each_view_stay_where_the_index_is_made(library: Library) -> None:
    """What is written to a library's own dataset takes it to the newest version, without a word."""
    points, views = features_for(5)
    library.write_features("aaaa1111", library.names, points, views)
    features = library.features()
    open_library(library.path).remove(["a/0.obj"])
    library.dataset.update_config({"crosshape.x": "1"})
    assert np.array_equal(features.each_view, views)


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"memory.max": "3000000", "memory.current": "2500000"}, 500_000),
        (
            {
                "memory.max": "3000000",
                "memory.current": "2500000",
                "memory.stat": "file 9\ninactive_file 4096\n",
            },
            504_096,
        ),
        ({"memory.max": "3000000", "memory.current": "9000000", "memory.stat": "inactive_file"}, 0),
        (
            {
                "memory/memory.limit_in_bytes": "3000000",
                "memory/memory.usage_in_bytes": "2500000",
                "memory/memory.stat": "inactive_file 7\ntotal_inactive_file 8192\n",
            },
            508_192,
        ),
    ],
)
def test_free_memory_of_a_container_counts_what_the_cache_of_files_gives_back(
    tmp_path: Path, files: dict[str, str], free: int
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert rooms.available_memory(tmp_path) == free


def test_free_memory_without_a_limit(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("2500000\n")
    assert (
        rooms.available_memory(tmp_path) > 3_000_000 and rooms.available_memory(tmp_path / "no") > 3_000_000
    )


def test_a_change_that_another_writer_preempts_is_made_again(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rooms.time, "sleep", lambda seconds: None)

    def refused(times: int, why: str) -> int:
        """How often a change is tried that is refused so many times."""
        tries = itertools.count(1)

        def change(newest: lance.LanceDataset) -> int:
            if (number := next(tries)) <= times:
                raise RuntimeError(why)
            return number

        return library._change(change)

    assert [refused(times, "Commit conflict for version 3") for times in (0, 3, 19)] == [1, 4, 20]
    with pytest.raises(CrosshapeError, match="other writers kept changing it. Run the same command again"):
        refused(20, "Commit conflict for version 3")
    with pytest.raises(CrosshapeError, match="the disk is full"):
        refused(1, "No space left on device")


def test_what_is_kept_of_a_version_is_made_once_and_goes_with_it(library: Library) -> None:
    made: list[int] = []

    def make() -> int:
        made.append(library.version)
        return len(made)

    assert [library.kept("a", make), library.kept("a", make), library.kept(("b", 1), make)] == [1, 1, 2]
    library.refresh()
    assert library.kept("a", make) == 1
    fill(library, ["z.obj"])
    assert [library.kept("a", make), library.kept("a", make)] == [3, 3] and made[2] == made[0] + 1


def test_opening_what_is_no_library(tmp_path: Path) -> None:
    def words(path: Path) -> str:
        with pytest.raises(CrosshapeError) as error:
            open_library(path)
        return str(error.value).replace(str(tmp_path), "")

    assert (
        words(tmp_path / "no.lance")
        == "there is no library /no.lance. Make one: crosshape add SHAPES /no.lance"
    )
    (tmp_path / "file").write_text("x")
    assert words(tmp_path / "file") == "/file is a file, not a library (a folder that crosshape add makes)."
    (tmp_path / "empty").mkdir()
    assert words(tmp_path / "empty").startswith(
        "/empty is an empty folder, not a library. Make one: crosshape add"
    )
    (tmp_path / "shapes").mkdir()
    (tmp_path / "shapes" / "a.obj").write_text("x")
    assert words(tmp_path / "shapes") == (
        "/shapes is a folder, but not a library. "
        "Make one of the shapes in it: crosshape add /shapes /shapes.lance"
    )
    lance.write_dataset(pa.table({"x": [1]}), tmp_path / "foreign.lance")
    assert words(tmp_path / "foreign.lance") == (
        "/foreign.lance is a Lance dataset, but not a library: crosshape did not make it. "
        "Choose another path."
    )
    with pytest.raises(CrosshapeError, match="crosshape did not make it"):
        create_library(tmp_path / "foreign.lance", SETTINGS)


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({"format": 2}, "was written by a newer crosshape (format 2, this one reads 1). Update crosshape."),
        ({"format": "x"}, "is damaged or not a library of this crosshape: "),
        ({"format": 1, "prepare": {"rays": 3}}, "is damaged or not a library of this crosshape: "),
        ({"format": 1, "prepare": {"views": 10**9}}, "is damaged or not a library of this crosshape: sizes"),
        ({"format": 1, "prepare": {}}, "column points is missing or of another type"),
        ([], "is damaged or not a library of this crosshape: "),
    ],
)
def test_opening_a_changed_library(library: Library, about: object, words: str) -> None:
    library.dataset.update_schema_metadata({"crosshape": json.dumps(about)}, replace=True)
    with pytest.raises(CrosshapeError) as error:
        open_library(library.path)
    assert words in str(error.value)


def test_a_library_with_damaged_files_says_so(library: Library) -> None:
    for file in (library.path / "data").iterdir():
        file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(CrosshapeError, match="cannot read"):
        open_library(library.path).points()
    newest = min(
        (library.path / "_versions").glob("*.manifest")
    )  # Lance counts down, so that the newest is first
    whole = newest.read_bytes()
    newest.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CrosshapeError, match="cannot open"):
        open_library(library.path)
    newest.write_bytes(b"\x00" * 30)  # as a power cut leaves it
    with pytest.raises(CrosshapeError, match="is damaged: its newest version holds nothing"):
        open_library(library.path)


def test_what_a_killed_first_writer_left_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "parts.lance"
    for name in ("data", "_versions", "_transactions"):
        (path / name).mkdir(parents=True)
    (path / "data" / "half.lance").write_bytes(b"x")
    with pytest.raises(CrosshapeError, match="is an empty folder"):
        open_library(path)
    fill(create_library(path, SETTINGS), ["a.obj"])
    assert open_library(path).names == ["a.obj"]


def test_paths_with_odd_characters(tmp_path: Path) -> None:
    path = tmp_path / "a b%20c#d?é" / "parts é.lance"
    fill(create_library(path, SETTINGS), ["a.obj"])
    assert open_library(path).names == ["a.obj"]
    assert path.is_dir() and [p.name for p in tmp_path.iterdir()] == ["a b%20c#d?é"]


def test_the_docs_tell_every_column() -> None:
    page = (Path(__file__).parent.parent / "docs" / "library.md").read_text()
    table = page.split("## Columns")[1].split("##")[0]
    first = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    told = [name for cell in first for name in re.findall("`([a-z_]+)`", cell)]
    told.remove("tags")  # `crosshape tag --write` adds it
    assert sorted(told) == sorted(rooms.library_schema(SETTINGS).names)


def test_a_folder_without_its_slash_is_offered(tmp_path):
    library = create_library(tmp_path / "a.lance", SETTINGS)
    fill(library, NAMES)
    with pytest.raises(
        CrosshapeError, match="there is no shape 'b' in .*; did you mean 'b/'. That is the folder"
    ):
        library.remove(["b"])
    fill(library, ["Natur neu/Alt/tree.obj"])
    assert library.folders() == ["Natur neu", "Natur neu/Alt", "a", "b", "c"]
    for name, folder in (("natur", "Natur neu/"), ("Natur/", "Natur neu/"), ("Natur nue/", "Natur neu/")):
        with pytest.raises(CrosshapeError) as error:
            library.remove([name])
        meant = f"did you mean '{folder}'? That is the folder, with all shapes below it."
        assert str(error.value) == f"there is no shape '{name}' in {library.path}; {meant}"
    assert library.named(["a/", "c/"]) == ["a/0.obj", "a/1.obj", "c/9.obj"]
    assert library.named(["b/", "a/1.obj", "b/0.obj"]) == ["a/1.obj", "b/0.obj", "b/2.obj"]


def test_tags_stay_with_a_shape_that_changes(tmp_path: Path) -> None:
    from crosshape.library.adding import add
    from crosshape.search.tags import write_tags

    for name, top in (("a", 1), ("b", 2)):
        corners = f"v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 {top}\n"
        (tmp_path / f"{name}.obj").write_text(corners + "f 1 3 2\nf 1 2 4\nf 2 3 4\nf 1 4 3\n")
    library = add(tmp_path, tmp_path / "parts.lance", workers=1)
    write_tags(library, {"a.obj": ["lid"]})
    for name in ("a", "b"):
        with (tmp_path / f"{name}.obj").open("a") as file:
            file.write("# changed\n")
    library = add(tmp_path, tmp_path / "parts.lance", workers=1)
    assert library.report is not None and library.report.updated == 2
    assert library.tags() == {"a.obj": ["lid"]}


def test_paths_that_lance_would_read_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("~/parts.lance", "c:parts.lance"):
        create_library(name, SETTINGS)
        library = open_library(name)
        fill(library, ["a.obj"])
        library.write_features("aaaa1111", ["a.obj"], *features_for(1))
        assert open_library(tmp_path / name).names == ["a.obj"]
    assert not (tmp_path / "home").exists()


def test_settings_and_names_that_cannot_be_meant(library: Library, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="up = 'w': it must be auto, x, y or z"):
        create_library(tmp_path / "new.lance", PrepareSettings(up="w"))
    assert not (tmp_path / "new.lance").exists()
    for ask in (library.points, library.remove):
        with pytest.raises(UsageError, match=r"names is the text 'a/1.obj'; give a list: \['a/1.obj'\]"):
            ask("a/1.obj")
