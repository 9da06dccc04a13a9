"""Adding: what is new, changed, moved, broken or there already; the same content in any order."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import crosshape
from crosshape.cli import main
from crosshape.errors import CrosshapeError, UnreadableShape, UsageError
from crosshape.library import adding
from crosshape.library.adding import AddReport, Skipped, add, encode_view
from crosshape.library.library import Library, open_library
from crosshape.settings import Limits, PrepareSettings

SMALL = PrepareSettings(points=32, views=2, image_size=16, supersample=1)
OPTIONS = ["--points", "32", "--views", "2", "--image-size", "16", "--supersample", "1"]


def write_box(path: Path, x: float = 1.0, y: float = 1.0, z: float = 1.0) -> Path:
    """An OFF file with a box of these sizes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    corners = [f"{i * x} {j * y} {k * z}" for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    quads = ["0 1 3 2", "4 6 7 5", "0 4 5 1", "2 3 7 6", "0 2 6 4", "1 5 7 3"]
    path.write_text("\n".join(["OFF", "8 6 0", *corners, *(f"4 {quad}" for quad in quads), ""]))
    return path


def write_boxes(folder: Path, count: int = 6) -> Path:
    for i in range(count):
        write_box(folder / ("even" if i % 2 == 0 else "odd") / f"{i}.off", 1 + i, 2.0, 3.0)
    return folder


def whole(library: Library | Path) -> pa.Table:
    """All columns of all rows, sorted by name."""
    return open_library(getattr(library, "path", library)).dataset.to_table().sort_by("name")


def counts(library: Library) -> tuple[int, int, int, int, int]:
    report = library.report
    assert report is not None
    assert report.found == report.added + report.updated + report.unchanged + len(report.skipped)
    return report.found, report.added, report.updated, report.unchanged, len(report.skipped)


class Inline:
    """The guard without processes, for speed; backwards, to show that the order does not matter."""

    def __init__(self, workers: int | None, limits: Limits, warm: object = None) -> None:
        pass

    def __enter__(self) -> Inline:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, function: Any, items: Any) -> Iterator[tuple[Any, Any]]:
        for item in reversed(list(items)):
            try:
                yield item, function(item)
            except UnreadableShape as error:
                yield item, error


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("crosshape.shapes.guard.Guard", Inline)


def test_same_content_whatever_the_order_and_the_number_of_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = write_boxes(tmp_path / "shapes", 9)
    one = add(shapes, tmp_path / "one.lance", settings=SMALL, workers=1)
    monkeypatch.setattr(adding, "BATCH", 2)
    two = add(shapes, tmp_path / "two.lance", settings=SMALL, workers=2)
    monkeypatch.setattr("crosshape.shapes.guard.Guard", Inline)
    parts = tmp_path / "parts.lance"
    for name in ("odd", "even"):
        add(shapes / name, parts, settings=SMALL, prefix=name)
    assert counts(one) == counts(two) == (9, 9, 0, 0, 0)
    assert whole(one).equals(whole(two)) and whole(one).equals(whole(parts))
    assert one.names == sorted(one.names) and one.names[0] == "even/0.off"


def test_second_run_adds_nothing_and_reads_nothing(
    tmp_path: Path, inline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = write_boxes(tmp_path / "shapes")
    first = add(shapes, tmp_path / "parts.lance", settings=SMALL)
    monkeypatch.setattr(adding, "prepare_row", None)
    monkeypatch.setattr(adding.hashlib, "file_digest", None)
    second = add(shapes, tmp_path / "parts.lance")
    assert counts(second) == (6, 0, 0, 6, 0) and second.version == first.version


def test_changed_files_are_updated_and_lose_their_features(tmp_path: Path, inline: None) -> None:
    shapes = write_boxes(tmp_path / "shapes")
    library = add(shapes, tmp_path / "parts.lance", settings=SMALL)
    library.write_features("aaaa1111", library.names, np.ones((6, 512)), np.ones((6, 2, 512)))
    before = whole(library)
    write_box(shapes / "odd" / "3.off", 0.1)
    os.utime(shapes / "odd" / "1.off")  # only touched
    library = add(shapes, tmp_path / "parts.lance")
    assert counts(library) == (6, 0, 1, 5, 0)
    assert library.without_features("aaaa1111") == ["odd/3.off"]
    after = whole(library)
    same = [name != "odd/3.off" for name in library.names]
    ignored = ["modified"]
    assert after.filter(same).drop_columns(ignored).equals(before.filter(same).drop_columns(ignored))
    assert library.facts()["extents"][4].as_py() == [0.1, 1.0, 1.0]
    again = add(shapes, tmp_path / "parts.lance")
    assert counts(again) == (6, 0, 0, 6, 0) and again.version == library.version


def test_a_change_that_keeps_size_and_time_needs_rehash(tmp_path: Path, inline: None) -> None:
    file = write_box(tmp_path / "box.off", 1.0)
    status = file.stat()
    add(file, tmp_path / "parts.lance", settings=SMALL)
    write_box(file, 7.0)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size
    assert counts(add(file, tmp_path / "parts.lance")) == (1, 0, 0, 1, 0)
    library = add(file, tmp_path / "parts.lance", rehash=True)
    assert counts(library) == (1, 0, 1, 0, 0)
    again = add(file, tmp_path / "parts.lance", rehash=True)
    assert counts(again) == (1, 0, 0, 1, 0) and again.version == library.version


@pytest.mark.parametrize("years", [-60, -1, 1, 30])
def test_the_clock_may_go_backwards(tmp_path: Path, inline: None, years: int) -> None:
    file = write_box(tmp_path / "box.off", 1.0)
    then = time.time() + years * 365 * 86400
    os.utime(file, (then, then))
    add(file, tmp_path / "parts.lance", settings=SMALL)
    assert counts(add(file, tmp_path / "parts.lance")) == (1, 0, 0, 1, 0)
    write_box(file, 7.0)
    assert counts(add(file, tmp_path / "parts.lance")) == (1, 0, 1, 0, 0)


def test_skipped_files_have_their_reasons_and_stay_out(tmp_path: Path, inline: None) -> None:
    shapes = write_boxes(tmp_path / "shapes", 3)
    (shapes / "empty.off").write_bytes(b"")
    (shapes / "broken.stl").write_bytes(b"solid x\nthis is no facet\n")
    (shapes / "notes.txt").write_text("no shape")
    library = crosshape.add(shapes, tmp_path / "parts.lance", settings=SMALL, limits=Limits(max_bytes=5000))
    assert counts(library) == (5, 3, 0, 0, 2)
    assert [Path(one.path).name for one in library.skipped] == ["broken.stl", "empty.off"]
    assert library.skipped[1].reason == "empty file (0 bytes)"
    write_box(shapes / "empty.off", 0.5)
    (shapes / "broken.stl").unlink()
    assert counts(add(shapes, tmp_path / "parts.lance")) == (4, 1, 0, 3, 0)


def test_a_file_that_broke_keeps_what_the_library_has_of_it(tmp_path: Path, inline: None) -> None:
    shapes = write_boxes(tmp_path / "shapes", 2)
    before = whole(add(shapes, tmp_path / "parts.lance", settings=SMALL))
    (shapes / "odd" / "1.off").write_text("OFF\nnonsense")
    library = add(shapes, tmp_path / "parts.lance")
    assert counts(library) == (2, 0, 0, 1, 1)
    assert whole(library).equals(before)


def test_moved_files_are_found_again_and_foreign_ones_kept_apart(tmp_path: Path, inline: None) -> None:
    here, there = write_boxes(tmp_path / "here", 3), tmp_path / "there"
    path = tmp_path / "parts.lance"
    add(here, path, settings=SMALL)
    here.rename(there)
    library = add(there, path)
    assert counts(library) == (3, 0, 0, 3, 0)
    assert library.facts()["path"].to_pylist() == [str(there / name) for name in library.names]
    write_box(here / "odd" / "1.off", 9.0)  # another box of the same name
    library = add(here, path)
    assert counts(library) == (1, 0, 0, 0, 1)
    assert library.skipped == (
        Skipped(
            str(here / "odd/1.off"),
            f"the name 'odd/1.off' is taken by {there / 'odd/1.off'}; add it with --prefix NAME/",
        ),
    )
    assert counts(add(here, path, prefix="more")) == (1, 1, 0, 0, 0)
    assert "more/odd/1.off" in open_library(path).names
    shutil.rmtree(there)
    assert counts(add(here, path)) == (1, 0, 1, 0, 0)  # the old file is gone: this is the one now


def test_a_shape_whose_file_was_moved_within_its_folder_keeps_what_was_made_of_it(
    made_folder, embedded_library, tmp_path, inline, capsys
):
    from crosshape.library.embedding import embed
    from crosshape.library.notes import marks_file, tags_file
    from crosshape.search.tags import said_tags, write_tags

    shutil.copytree(made_folder, tmp_path / "shapes")
    path = tmp_path / "parts.lance"
    library = add(tmp_path / "shapes", path, settings=PrepareSettings(points=128, views=2, image_size=32))
    embed(embedded_library.path.parent / "run", library, device="cpu")
    names = library.names
    old, other = [name for name in names if name.startswith("mug/")][:2]
    write_tags(library, {old: ["cup"]})
    said = {"labels": {old: "cup"}, "refused": [[old, "bolt"], [other, "bolt"]]}
    tags_file(path).write_text(json.dumps(said))
    pair = {"a": old, "b": names[0], "mark": "different", "when": "2026-11-27"}
    marks_file(path).write_text(json.dumps({"pairs": [pair]}))
    before = library.features()
    (tmp_path / "shapes" / "mug").rename(tmp_path / "shapes" / "Becher für Tee")
    again = f"again{Path(names[0]).suffix}"
    shutil.copy(tmp_path / "shapes" / names[0], tmp_path / "shapes" / again)  # a copy was not moved

    assert main(["add", str(tmp_path / "shapes"), str(path), "--json"]) == 0
    said = capsys.readouterr()
    assert f"3 shapes were moved or renamed, as {old} to Becher für Tee/" in said.err
    told = json.loads(said.out.splitlines()[-1])
    assert (told["found"], told["added"], told["unchanged"], told["moved"]) == (13, 1, 12, 3)
    library = open_library(path)
    new = {name: name.replace("mug/", "Becher für Tee/") for name in names}
    assert library.names == sorted([*new.values(), again]) and library.missing() == []
    after = library.features(partly=True)
    for name in names:
        row, place = after.names.index(new[name]), names.index(name)
        assert np.array_equal(after.points[row], before.points[place])
    assert library.without_features(before.model) == [again]
    assert library.tags() == {new[old]: ["cup"]}
    assert said_tags(path) == ({new[old]: "cup"}, {(new[old], "bolt"), (new[other], "bolt")})
    assert json.loads(marks_file(path).read_text())["pairs"] == [{**pair, "a": new[old]}]
    assert counts(add(tmp_path / "shapes", path)) == (13, 0, 0, 13, 0)


def test_buffers_of_a_gltf_count_as_its_content(tmp_path: Path, inline: None) -> None:
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    faces = np.array([[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]], np.uint16)
    shapes = tmp_path / "shapes"
    shapes.mkdir()
    (shapes / "a.bin").write_bytes(points.tobytes() + faces.tobytes())
    about = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "scene": 0,
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": [
            {
                "bufferView": 0,
                "componentType": 5126,
                "count": 4,
                "type": "VEC3",
                "min": [0] * 3,
                "max": [1] * 3,
            },
            {"bufferView": 1, "componentType": 5123, "count": 12, "type": "SCALAR"},
        ],
        "bufferViews": [
            {"buffer": 0, "byteOffset": 0, "byteLength": 48},
            {"buffer": 0, "byteOffset": 48, "byteLength": 24},
        ],
        "buffers": [{"uri": "a.bin", "byteLength": 72}],
    }
    (shapes / "a.gltf").write_text(json.dumps(about))
    assert counts(add(shapes, tmp_path / "parts.lance", settings=SMALL)) == (1, 1, 0, 0, 0)
    library = add(shapes, tmp_path / "parts.lance")
    assert counts(library) == (1, 0, 0, 1, 0) and library.version == 2  # nothing was written
    (shapes / "a.bin").write_bytes((2 * points).tobytes() + faces.tobytes())
    assert counts(add(shapes, tmp_path / "parts.lance")) == (1, 0, 1, 0, 0)


def test_other_settings_are_an_error_that_says_what_to_do(tmp_path: Path, inline: None) -> None:
    file = write_box(tmp_path / "box.off")
    path = tmp_path / "parts.lance"
    add(file, path, settings=SMALL)
    with pytest.raises(CrosshapeError) as error:
        add(file, path, settings=PrepareSettings(points=32, views=3, image_size=16, supersample=1))
    assert str(error.value) == (
        f"{path} was made with views = 2, not 3. Leave out --views, or add the shapes to a new library: "
        f"crosshape add {file} {tmp_path / 'parts-3.lance'} --points 32 --views 3 --image-size 16 --supersample 1"
    )
    assert open_library(path).settings == SMALL
    assert add(file, path).settings == SMALL


def test_nothing_to_add_makes_no_library(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CrosshapeError, match="empty holds no shape files, also not in the folders below it"):
        add(tmp_path / "empty", tmp_path / "parts.lance")
    with pytest.raises(CrosshapeError):
        add(tmp_path / "nowhere", tmp_path / "parts.lance")
    assert not (tmp_path / "parts.lance").exists()


@pytest.mark.parametrize("prefix", ["../up", "/root", "a//b", "a/./b", "line\nbreak/"])
def test_a_prefix_is_a_folder_below(tmp_path: Path, prefix: str) -> None:
    with pytest.raises(UsageError, match="must be a folder such as mine/"):
        add(write_box(tmp_path / "box.off"), tmp_path / "parts.lance", prefix=prefix)


def test_a_library_cannot_take_the_place_of_something_else(tmp_path: Path, inline: None) -> None:
    file = write_box(tmp_path / "shapes" / "box.off")
    with pytest.raises(CrosshapeError, match="is a file, not a library"):
        add(file, file)
    with pytest.raises(CrosshapeError, match="is a folder, but not a library"):
        add(file, tmp_path / "shapes")
    with pytest.raises(CrosshapeError, match="a part of this path is a file, not a folder"):
        add(file, file / "parts.lance", settings=SMALL)
    with pytest.raises(CrosshapeError, match="cannot write /proc/parts.lance"):
        add(file, "/proc/parts.lance", settings=SMALL)
    (tmp_path / "blank").mkdir()
    assert counts(add(file, tmp_path / "blank", settings=SMALL)) == (1, 1, 0, 0, 0)


def test_a_file_is_one_shape_whichever_folder_it_was_found_from(tmp_path: Path, inline: None) -> None:
    for i, name in enumerate(("a.off", "sub/a.off", "sub/b.off")):
        write_box(tmp_path / "shapes" / name, 1.0 + i)
    path = tmp_path / "parts.lance"
    add(tmp_path / "shapes", path, settings=SMALL)
    library = add(tmp_path / "shapes" / "sub", path)  # its a.off is sub/a.off, not the other a.off
    assert counts(library) == (2, 0, 0, 2, 0) and library.names == ["a.off", "sub/a.off", "sub/b.off"]
    write_box(tmp_path / "shapes" / "sub" / "b.off", 7.0)
    assert counts(add(tmp_path / "shapes" / "sub" / "b.off", path)) == (1, 0, 1, 0, 0)
    (tmp_path / "link").symlink_to(tmp_path / "shapes" / "sub")
    library = add(tmp_path / "link", path)  # the same files by way of a link
    assert counts(library)[1] == 0 and library.names == ["a.off", "sub/a.off", "sub/b.off"]
    library = add(tmp_path / "shapes" / "sub", path, prefix="mine")  # asked for by name
    assert counts(library) == (2, 2, 0, 0, 0) and library.names[1:3] == ["mine/a.off", "mine/b.off"]


def test_links_that_are_not_followed_are_said(
    tmp_path: Path, inline: None, capsys: pytest.CaptureFixture[str]
) -> None:
    write_box(tmp_path / "shapes" / "a.off")
    write_box(tmp_path / "elsewhere" / "b.off")
    (tmp_path / "shapes" / "folder").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "shapes" / "b.off").symlink_to(tmp_path / "elsewhere" / "b.off")
    path = str(tmp_path / "parts.lance")
    assert main(["add", str(tmp_path / "shapes"), path, *OPTIONS]) == 0
    out, err = capsys.readouterr()
    assert "(1 found = 1 added" in out and "2 links to other folders were not followed, such as" in err
    assert main(["add", str(tmp_path / "shapes"), path, "--json"]) == 0
    assert "2 links to other folders" in capsys.readouterr().err
    assert main(["check", str(tmp_path / "shapes"), "--workers", "1"]) == 0
    assert "2 links to other folders" in capsys.readouterr().err
    (tmp_path / "shapes" / "a.off").unlink()
    assert main(["add", str(tmp_path / "shapes"), path]) == 1
    assert "2 links to other folders" in capsys.readouterr().err
    assert main(["check", str(tmp_path / "shapes")]) == 1
    assert "2 links to other folders" in capsys.readouterr().err
    assert main(["add", "", path]) == 2
    assert "the path of the shapes is empty" in capsys.readouterr().err


def test_which_way_is_up_is_said_once(
    tmp_path: Path, inline: None, capsys: pytest.CaptureFixture[str]
) -> None:
    from crosshape.shapes.made import make_shape, write_shape

    shapes = tmp_path / "my shapes"
    write_box(shapes / "a.off")
    write_shape(make_shape("mug", 0), shapes / "b.glb")
    path, words = (
        str(tmp_path / "parts.lance"),
        "1 of 2 shapes were taken as Z up, as their formats do not say; if",
    )
    assert main(["add", str(shapes), path, *OPTIONS]) == 0
    assert (
        f"{words} they lie on their side in crosshape serve, start anew with --up y.\n"
        in capsys.readouterr().err
    )
    assert main(["add", str(shapes), path]) == 0
    assert main(["add", str(shapes), str(tmp_path / "y.lance"), *OPTIONS, "--up", "y"]) == 0
    assert main(["add", str(shapes / "b.glb"), str(tmp_path / "glb.lance"), *OPTIONS]) == 0
    assert "Z up" not in capsys.readouterr().err
    assert main(["add", str(shapes), path, "--up", "y", "--prefix", "new", "--exclude", "*.glb"]) == 1
    again = (
        f"crosshape add '{shapes}' {tmp_path / 'parts-y.lance'} --prefix new/ --exclude '*.glb' --points 32"
    )
    assert f"made with up = auto, not y. Leave out --up, or add the shapes to a new library: {again}" in (
        err := capsys.readouterr().err
    )
    assert err.endswith(" --supersample 1 --up y\n")


def test_files_of_formats_that_are_not_read_are_counted(
    tmp_path: Path, inline: None, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes, path = tmp_path / "shapes", str(tmp_path / "parts.lance")
    write_box(shapes / "a.off")
    for name in ("a.fbx", "sub/B.FBX", "c.blend", "old.zip", "old/d.fbx", "._a.fbx", ".trash/e.fbx", "a.mtl"):
        (shapes / name).parent.mkdir(exist_ok=True)
        (shapes / name).write_bytes(b"what it holds is not looked at")
    many = ".fbx 3, .blend 1 (export them as GLB or OBJ), .zip 1 (unpack them)"
    words = f"5 files of formats that are not read: {many}.\n"
    assert main(["add", str(shapes), path, *OPTIONS]) == 0
    out, err = capsys.readouterr()
    assert "(1 found = 1 added" in out and words in err
    assert main(["check", str(shapes), "--workers", "1"]) == 0
    assert words in capsys.readouterr().err
    assert main(["add", str(shapes), path, "--json", "--exclude", "old"]) == 0
    assert json.loads(capsys.readouterr().out)["unread"] == {".fbx": 2, ".blend": 1, ".zip": 1}
    (shapes / "a.off").unlink()
    for command in (["add", str(shapes), path], ["check", str(shapes)]):
        assert main(command) == 1
        assert words in capsys.readouterr().err


def test_files_of_some_names_are_left_out(
    tmp_path: Path, inline: None, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes, path = write_boxes(tmp_path / "shapes", 4), str(tmp_path / "parts.lance")
    (shapes / "broken.off").write_bytes(b"")
    words = ["add", str(shapes), path, *OPTIONS, "--exclude", "odd/", "--exclude", "brok*", "--json"]
    assert main(words) == 0  # what cannot be read is not opened
    told = capsys.readouterr()
    summary = json.loads(told.out)
    assert [summary[key] for key in ("found", "added", "skipped", "excluded")] == [2, 2, 0, 3]
    assert "3 files were left out (--exclude)." in told.err.splitlines()
    parts = [add(shapes, path, exclude=["odd", "brok*"], part=f"{number}/3").report for number in (1, 2, 3)]
    assert [sum(getattr(part, key) for part in parts) for key in ("found", "excluded")] == [2, 3]
    library = crosshape.add(shapes, path, exclude=("broken.off",))
    assert counts(library) == (4, 2, 0, 2, 0)
    before = whole(library)
    write_box(shapes / "odd" / "1.off", 9.0)
    (shapes / "odd" / "3.off").unlink()
    assert main(["add", str(shapes), path, "--exclude", "odd", "--exclude", "*n.off"]) == 0
    told = capsys.readouterr()
    assert whole(library).equals(before)  # what is there of them stays as it is
    assert "2 files were left out (--exclude)." in told.err
    assert "1 shapes of the library have no file there any more." in told.err
    assert main(["add", str(shapes), path, "--exclude", "*.off"]) == 1
    assert "is left to add: 4 files were left out (--exclude)." in capsys.readouterr().err
    assert main(["add", str(shapes), path, "--exclude", ""]) == 2
    assert "a pattern of --exclude is empty" in capsys.readouterr().err
    assert main(["check", str(shapes), "--exclude", "brok*", "--workers", "1"]) == 0
    assert "1 file was left out (--exclude)." in capsys.readouterr().err
    assert main(["check", str(shapes), "--exclude", "*"]) == 1
    assert "is left to check: 4 files were left out (--exclude)." in capsys.readouterr().err


def test_that_removed_shapes_come_back_is_said(
    tmp_path: Path, inline: None, capsys: pytest.CaptureFixture[str]
) -> None:
    shapes, path = write_boxes(tmp_path / "shapes", 6), str(tmp_path / "parts.lance")
    add(shapes, path, settings=SMALL)
    for name in ("even/0.off", "odd/1.off"):
        (shapes / name).unlink()
    assert main(["remove", path, "even/", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["removed"] == 3
    assert told.err == (
        "Files of removed shapes that are still there: 2. The next add of their folder brings the shapes back, "
        "unless --exclude leaves them out.\n"
    )
    assert add(shapes, path, exclude=["even"]).names == ["odd/1.off", "odd/3.off", "odd/5.off"]
    assert len(add(shapes, path)) == 5  # so they do
    for words in (["odd/1.off"], ["--missing"], ["--forget"], ["even/", "--dry-run"]):
        assert main(["remove", path, *words]) == 0 and capsys.readouterr().err == ""
    assert len(open_library(path)) == 4


def test_names_are_kept_as_they_are(tmp_path: Path, inline: None) -> None:
    names = ["o'brien.off", "ünï — 名.off", "line\nbreak.off", '"; DROP--.off', " space .off", "%20.off"]
    for i, name in enumerate(names):
        write_box(tmp_path / "shapes" / name, 1.0 + i)
    library = add(tmp_path / "shapes", tmp_path / "parts.lance", settings=SMALL)
    assert library.names == sorted(names) and counts(library)[1] == 6
    bad = os.fsdecode(b"bad\xff.off")
    write_box(tmp_path / "shapes" / bad)
    library = add(tmp_path / "shapes", tmp_path / "parts.lance")
    assert counts(library) == (7, 0, 0, 6, 1)
    assert library.skipped[0].reason == "its name is not valid UTF-8; rename it"
    assert library.skipped[0].path.endswith("bad\\xff.off")


def test_the_command(tmp_path: Path, inline: None, capsys: pytest.CaptureFixture[str]) -> None:
    shapes = write_boxes(tmp_path / "shapes", 3)
    path = str(tmp_path / "parts.lance")
    assert main(["add", str(shapes), path, *OPTIONS]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"{path}: 3 shapes (3 found = 3 added, 0 updated, 0 unchanged, 0 skipped) in ")
    (shapes / "empty\x1b[31m.off").write_bytes(b"")
    assert main(["add", str(shapes), path, "--json"]) == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == {"path": str(shapes / "empty\x1b[31m.off"), "reason": "empty file (0 bytes)"}
    assert list(lines[1]) == ["found", "added", "updated", "unchanged", "skipped", "seconds", "unread"]
    assert [lines[1][key] for key in list(lines[1])[:5]] == [4, 0, 0, 3, 1]
    assert main(["add", str(shapes), path]) == 1
    assert capsys.readouterr().err == f"{shapes}/empty\\x1b[31m.off was skipped: empty file (0 bytes)\n"
    assert main(["add", str(shapes), path, "--views", "5"]) == 1
    assert "was made with views = 2, not 5. Leave out --views" in capsys.readouterr().err
    assert main(["add", str(shapes), path, "--views", "0"]) == 2
    assert capsys.readouterr().err == "crosshape: --views 0: it must be at least 1.\n"
    assert main(["add", str(shapes), str(tmp_path / "big.lance"), "--views", "5000"]) == 2
    assert capsys.readouterr().err == "crosshape: views = 5,000: it must be between 1 and 1,000.\n"
    assert main(["add", str(shapes)]) == 2
    capsys.readouterr()
    assert main(["remove", path, "even/", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"removed": 2, "left": 1, "forgotten": False}
    assert main(["remove", path, "odd/1.of"]) == 1
    assert "did you mean 'odd/1.off'?" in capsys.readouterr().err
    assert main(["info", path, "--json"]) == 0
    about = json.loads(capsys.readouterr().out)
    assert (about["kind"], about["shapes"], about["views"], about["formats"]) == ("library", 1, 2, {"off": 1})
    assert main(["info", str(tmp_path)]) == 1


def test_two_processes_add_at_once(tmp_path: Path) -> None:
    shapes = write_boxes(tmp_path / "shapes", 24)
    path = tmp_path / "parts.lance"
    script = (
        "import sys; from crosshape.library import adding, library; adding.BATCH = 3; library.MANY = 2; "
        "from crosshape.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = [
        sys.executable,
        "-c",
        script,
        "add",
        str(shapes),
        str(path),
        *OPTIONS,
        "--workers",
        "1",
        "--json",
    ]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    totals = [json.loads(one.communicate(timeout=120)[0].splitlines()[-1]) for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert all(
        total["found"] == 24 == total["added"] + total["unchanged"] + total["updated"] for total in totals
    )
    alone = add(shapes, tmp_path / "alone.lance", settings=SMALL)
    assert whole(path).equals(whole(alone))  # nothing lost, nothing doubled


def test_views_are_stored_without_loss() -> None:
    import io

    from PIL import Image

    view = np.random.default_rng(0).integers(0, 256, (5, 7), np.uint8)
    picture = Image.open(io.BytesIO(encode_view(view)))
    picture.load()
    assert picture.mode == "L" and np.array_equal(np.asarray(picture), view)


def test_the_report_in_words() -> None:
    report = AddReport(1558, 1500, 2, 50, (Skipped("a", "b"),) * 6, 1.0)
    assert str(report) == "1,558 found = 1,500 added, 2 updated, 50 unchanged, 6 skipped"


def test_shapes_whose_files_are_gone_can_be_removed(made_folder, tmp_path, capsys):
    shutil.copytree(made_folder, tmp_path / "parts")
    place = str(tmp_path / "parts.lance")
    add(tmp_path / "parts", place, settings=SMALL, workers=1)
    (tmp_path / "parts" / "mug" / "mug_0.obj").unlink()
    write_box(tmp_path / "parts" / "mug" / "cup.off")
    capsys.readouterr()
    assert main(["add", str(tmp_path / "parts"), place]) == 0
    said = capsys.readouterr().err
    assert "1 shapes of the library have no file there any more. To remove them: crosshape remove" in said
    assert "features" not in said
    assert main(["remove", place, "--missing", "--dry-run"]) == 0
    assert capsys.readouterr().out == "mug/mug_0.obj\n" and len(open_library(place)) == 13
    assert main(["remove", place, "--missing", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"removed": 1, "left": 12, "forgotten": False}
    assert main(["remove", place, "--missing"]) == 0 and len(open_library(place)) == 12
    shutil.rmtree(tmp_path / "parts")
    capsys.readouterr()
    assert main(["remove", place, "--missing"]) == 1
    assert "Is their disk connected?" in capsys.readouterr().err and len(open_library(place)) == 12
