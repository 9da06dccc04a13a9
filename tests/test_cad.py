"""STEP: exact bodies become triangles of the right size and place; what is damaged is told and hurts nobody."""

from __future__ import annotations

import os
import sys

import numpy as np
import pytest
import step

from crosshape.cli import main
from crosshape.errors import UnreadableShape
from crosshape.settings import Limits
from crosshape.shapes.files import load_shape
from crosshape.shapes.guard import Guard


def loaded(tmp_path, content, name="a.step", **words):
    (tmp_path / name).write_bytes(content)
    return load_shape(tmp_path / name, **words)


def test_a_box_is_twelve_triangles_in_millimetres_with_z_up(tmp_path):
    shape = loaded(tmp_path, step.box((10, 20, 30)))
    assert len(shape.faces) == 12 and shape.format == "step"
    assert np.allclose(shape.vertices.min(0), 0, atol=1e-6)
    assert np.allclose(shape.vertices.max(0), (10, 20, 30), atol=1e-4)
    assert shape.area == pytest.approx(2 * (10 * 20 + 20 * 30 + 30 * 10), rel=1e-5)
    corners = shape.vertices[shape.faces]
    outward = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (((corners.mean(1) - (5, 10, 15)) * outward).sum(1) > 0).all()


def test_the_unit_of_the_file_is_heeded(tmp_path):
    shape = loaded(tmp_path, step.box((1, 2, 3), unit="m"))
    assert np.allclose(np.ptp(shape.vertices, axis=0), (1000, 2000, 3000), rtol=1e-5)


def test_up_turns_it(tmp_path):
    shape = loaded(tmp_path, step.box((10, 20, 30)), up="y")
    assert np.allclose(np.ptp(shape.vertices, axis=0), (10, 30, 20), rtol=1e-5)


@pytest.mark.parametrize("radius", [0.01, 10.0, 5e6])
def test_a_sphere_is_as_fine_at_any_size(tmp_path, radius):
    shape = loaded(tmp_path, step.sphere(radius), "A.STP")
    assert 500 < len(shape.faces) < 3000
    distance = np.linalg.norm(shape.vertices, axis=1)
    assert np.allclose(distance, radius, rtol=1e-4)
    assert shape.area == pytest.approx(4 * np.pi * radius**2, rel=0.02)


def test_all_bodies_are_read(tmp_path):
    shape = loaded(tmp_path, step.two())
    assert np.allclose(shape.vertices.max(0), (45, 20, 30), rtol=1e-3)
    assert shape.area == pytest.approx(2200 + 4 * np.pi * 25, rel=0.01)


def test_the_same_bytes_give_the_same_triangles(tmp_path):
    one, other = (loaded(tmp_path, step.sphere()) for _ in range(2))
    assert np.array_equal(one.vertices, other.vertices) and np.array_equal(one.faces, other.faces)


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "empty file"),
        (b"solid a\n", "it does not begin with ISO-10303-21"),
        (b"\x89PNG\r\n\x1a\n" + b"0" * 50, "a PNG picture, not STEP"),
        (b"ISO-10303-21;\nEND-ISO-10303-21;", "OpenCASCADE finds no body in it"),
        (step.box().replace(b"MANIFOLD_SOLID_BREP", b"MANIFOLD_NOTHING_BREP"), "OpenCASCADE finds no body"),
    ],
)
def test_what_is_no_body_is_told(tmp_path, content, reason):
    with pytest.raises(UnreadableShape, match=reason):
        loaded(tmp_path, content)


@pytest.mark.parametrize(
    "broken, left_out",
    [((b"SPHERICAL_SURFACE", b"SPHERICAL_SURFACX", 1), "1 of 7"), ((b"PLANE(", b"PLANX(", 3), "3 of 7")],
)
def test_surfaces_that_are_left_out_are_counted(tmp_path, broken, left_out):
    shape = loaded(tmp_path, step.two().replace(*broken))
    assert f"left out: {left_out} surfaces, which OpenCASCADE cannot read" in shape.notes
    assert loaded(tmp_path, step.two()).notes in ((), ("removed faces: 2 of zero area",))


def test_a_mark_of_utf8_does_no_harm(tmp_path):
    assert len(loaded(tmp_path, b"\xef\xbb\xbf" + step.box()).faces) == 12


def test_a_file_that_is_cut_off_is_told(tmp_path):
    with pytest.raises(UnreadableShape, match="cut off: it does not end with END-ISO-10303-21"):
        loaded(tmp_path, step.box()[:3000])


@pytest.mark.parametrize("how", ["associated", "assigned"])
def test_other_files_are_not_opened(tmp_path, how):
    """A named pipe: whoever opens it waits for a writer."""
    os.mkfifo(tmp_path / "other.step")
    content = step.elsewhere(str(tmp_path / "other.step"), how)
    (tmp_path / "a.step").write_bytes(content)
    with Guard(1, Limits(seconds=20)) as guard:
        shape = guard.call(load_shape, str(tmp_path / "a.step"))
    assert np.allclose(np.ptp(shape.vertices, axis=0), (10, 20, 30), rtol=1e-5)
    assert any(note.startswith("not opened: ") for note in shape.notes)


def test_limits_hold(tmp_path):
    with pytest.raises(UnreadableShape, match="faces"):
        loaded(tmp_path, step.sphere(), limits=Limits(max_faces=100))


def test_without_opencascade_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "cascadio", None)
    with pytest.raises(UnreadableShape, match=r"STEP needs OpenCASCADE: pip install cascadio"):
        loaded(tmp_path, step.box())


def test_a_step_file_by_another_name_is_told(tmp_path):
    with pytest.raises(UnreadableShape, match="a STEP file, not STL"):
        loaded(tmp_path, step.box(), "a.stl")


@pytest.mark.slow
def test_what_opencascade_does_not_end_with_is_ended(tmp_path):
    (tmp_path / "a.step").write_bytes(step.sphere(1e200))
    with (
        Guard(1, Limits(seconds=3)) as guard,
        pytest.raises(UnreadableShape, match="took longer than 3 s|finds no body"),
    ):
        guard.call(load_shape, str(tmp_path / "a.step"))


@pytest.mark.slow
def test_damaged_files_cost_one_item_each(tmp_path):
    """Cut off, numbers exchanged, references out of range or in a circle: a shape or a reason, and the pool goes on."""
    whole, chance = step.two(), np.random.default_rng(5)
    for number in range(40):
        text = whole
        if number % 4 == 0:
            text = whole[: int(chance.integers(50, len(whole)))]
        for _ in range(int(chance.integers(1, 6))):
            at = int(chance.integers(300, len(text))) if len(text) > 301 else 0
            new = [b"#", b"9", b"", b"#1", b"1E300", b"$", b"*", b"-"][int(chance.integers(8))]
            text = text[:at] + new + text[at + 1 :]
        (tmp_path / f"{number:02}.step").write_bytes(text)
    (tmp_path / "good.step").write_bytes(whole)
    paths = sorted(map(str, tmp_path.iterdir()))
    with Guard(2, Limits(seconds=20)) as guard:
        found = dict(guard.map(load_shape, paths))
    assert set(found) == set(paths)
    assert len(found[paths[-1]].faces) > 500
    reasons = [one.reason for one in found.values() if isinstance(one, UnreadableShape)]
    assert len(reasons) > 10 and all(reasons)


def test_a_folder_of_step_is_added(tmp_path, capfd):
    for name, content in (
        ("a.step", step.box()),
        ("b.stp", step.sphere()),
        ("c.step", b"ISO-10303-21;\nEND-ISO-10303-21;"),
    ):
        (tmp_path / "parts").mkdir(exist_ok=True)
        (tmp_path / "parts" / name).write_bytes(content)
    sizes = ["--points", "128", "--views", "2", "--image-size", "32", "--workers", "1"]
    assert main(["add", str(tmp_path / "parts"), str(tmp_path / "l.lance"), *sizes]) == 1
    told = capfd.readouterr()
    assert "3 found = 2 added, 0 updated, 0 unchanged, 1 skipped" in told.out
    assert "c.step was skipped: OpenCASCADE finds no body in it" in told.err
