"""Tiny copies of every layout, made by code: recognised, counted, never a label shifted."""

import csv
import json
import re

import h5py
import numpy as np
import pytest
from PIL import Image

from crosshape.cli import main
from crosshape.errors import CrosshapeError, UnreadableShape, UsageError
from crosshape.shapes import datasets
from crosshape.shapes.layouts import (
    load_item,
    load_parts,
    load_pictures,
    open_layout,
    part_points,
    split_items,
)


def cloud(seed, points=64):
    """(points, 3) float32, Z up."""
    return np.random.default_rng(seed).normal(size=(points, 3)).astype(np.float32)


def y_up(points):
    """The same cloud as a release with Y up keeps it."""
    return np.stack([points[:, 0], points[:, 2], -points[:, 1]], axis=1)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_cloud(path, points):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, points)


def write_h5(path, clouds, labels, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as table:
        table["data"] = np.stack(clouds)
        table["label"] = np.asarray(labels).reshape(-1, 1)
        for name, values in more.items():
            table[name] = values


TETRAHEDRON = "OFF\n4 4 0\n0 0 0\n1 0 0\n0 1 0\n0 0 {top}\n3 0 2 1\n3 0 1 3\n3 1 2 3\n3 0 3 2\n"


def rows(*columns):
    return "\n".join(" ".join(f"{v:.9g}" for v in row) for row in np.column_stack(columns)) + "\n"


# The same four shapes, two classes, in four layouts.
SHAPES = {("chair", "train", "chair_0001"): 1, ("chair", "test", "chair_0002"): 2}
SHAPES |= {("xbox", "train", "xbox_0001"): 3, ("xbox", "test", "xbox_0002"): 4}


def as_clouds(root):
    for (label, split, name), seed in SHAPES.items():
        write_cloud(root / label / split / f"{name}.npy", cloud(seed))


def as_h5(root):
    for split, seeds in (("train", (3, 1)), ("test", (4, 2))):
        numbers = [datasets.MODELNET40.index("xbox"), datasets.MODELNET40.index("chair")]
        write_h5(root / f"ply_data_{split}0.h5", [y_up(cloud(s)) for s in seeds], np.array(numbers, np.uint8))
        write(root / f"{split}_files.txt", f"data/modelnet40_ply_hdf5_2048/ply_data_{split}0.h5\n")
        names = [f"xbox/{'xbox_0001' if split == 'train' else 'xbox_0002'}.ply"]
        names += [f"chair/{'chair_0001' if split == 'train' else 'chair_0002'}.ply"]
        write(root / f"ply_data_{split}_0_id2file.json", json.dumps(names))


def as_normal_resampled(root):
    for (label, _, name), seed in SHAPES.items():
        table = rows(y_up(cloud(seed)), np.ones((64, 3)))
        write(root / label / f"{name}.txt", table.replace(" ", ","))
    for split in ("train", "test"):
        write(root / f"modelnet40_{split}.txt", "".join(f"{n}\n" for _, s, n in SHAPES if s == split))


def as_csv(root):
    as_clouds(root)
    with (root / "shapes.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("path", "label", "split"))
        for label, split, name in SHAPES:
            table.writerow((f"{label}/{split}/{name}.npy", label, split))
    return root / "shapes.csv"


RELEASES = {
    "modelnet": as_clouds,
    "modelnet-h5": as_h5,
    "modelnet-normal": as_normal_resampled,
    "csv": as_csv,
}


@pytest.mark.parametrize("name", RELEASES)
def test_the_same_shapes_from_every_release_give_the_same_arrays_and_labels(tmp_path, name):
    layout = open_layout(RELEASES[name](tmp_path) or tmp_path)
    assert layout.name == name
    assert layout.classes == ("chair", "xbox")
    assert layout.counts == {"train": 2, "test": 2}
    found = {}
    for item in layout.items:
        key = (layout.classes[item.label], item.split, re.sub(r"\..*", "", item.name.split("/")[-1]))
        found[key] = load_item(item)
    assert set(found) == set(SHAPES)
    for key, seed in SHAPES.items():
        np.testing.assert_array_equal(found[key].vertices.astype(np.float32), cloud(seed))
        assert found[key].is_cloud


def test_normals_turn_with_their_points(tmp_path):
    unit = cloud(1) / np.linalg.norm(cloud(1), axis=1, keepdims=True)
    as_normal_resampled(tmp_path)
    write(tmp_path / "chair" / "chair_0001.txt", rows(y_up(cloud(1)), y_up(unit)))
    shape = load_item(open_layout(tmp_path).items[0])
    np.testing.assert_allclose(shape.vertices, cloud(1), rtol=1e-6)
    np.testing.assert_allclose(shape.normals, unit, atol=1e-6)


@pytest.mark.parametrize("name", ("modelnet", "modelnet-h5", "modelnet-normal"))
def test_a_partial_copy_is_said_plainly(tmp_path, name):
    RELEASES[name](tmp_path)
    layout = open_layout(tmp_path)
    whole = "9,840" if name == "modelnet-h5" else "9,843"
    assert layout.complete is False
    assert layout.warnings[-1] == (
        f"a partial copy is used: 2 train, 2 test; the official counts are {whole} train, 2,468 test"
    )


def test_complete_counts_are_recognised(tmp_path, monkeypatch):
    as_clouds(tmp_path)
    monkeypatch.setitem(datasets.OFFICIAL, "ModelNet40", ({"train": 2, "test": 2},))
    layout = open_layout(tmp_path)
    assert layout.complete and layout.warnings == ()
    assert layout.note == "ModelNet40 as .npy files: 2 train, 2 test shapes in 2 classes, complete"


def test_modelnet10_is_the_subset_of_ten_classes(tmp_path):
    as_clouds(tmp_path)
    layout = open_layout(tmp_path, "modelnet10")
    assert layout.classes == ("chair",) and {i.label for i in layout.items} == {0}
    assert layout.note.startswith("ModelNet10 as .npy files: 1 train, 1 test")
    assert "3,991 train, 908 test" in layout.warnings[-1]


def test_meshes_and_own_class_names_make_no_claim(tmp_path):
    for label in ("bolt", "Anchor"):
        for split in ("train", "val", "test"):
            write(tmp_path / label / split / "a.off", TETRAHEDRON.format(top=1))
    write(tmp_path / "bolt" / "stray.off", TETRAHEDRON.format(top=1))
    layout = open_layout(tmp_path)
    assert layout.name == "modelnet" and layout.complete is None
    assert layout.classes == ("Anchor", "bolt")
    assert layout.counts == {"train": 2, "val": 2, "test": 2}
    assert layout.warnings == (
        "1 files lie outside CLASS/train and CLASS/test and are left out (first: bolt/stray.off)",
    )
    assert load_item(layout.items[0]).faces.shape == (4, 3)


def test_scanobjectnn_numbers_are_mapped_to_sorted_names(tmp_path):
    for split in ("training", "test"):
        clouds = [y_up(cloud(i)) for i in range(15)]
        write_h5(tmp_path / "main_split" / f"{split}_objectdataset.h5", clouds, np.arange(15))
    layout = open_layout(tmp_path)
    assert (layout.name, layout.variant) == ("scanobjectnn", "OBJ_BG")
    assert "OBJ_BG" in layout.note and "2,309 train, 581 test" in layout.warnings[-1]
    assert list(layout.classes) == sorted(datasets.SCANOBJECTNN)
    for item in layout.items:
        assert layout.classes[item.label] == datasets.SCANOBJECTNN[item.row]
        np.testing.assert_array_equal(load_item(item).vertices.astype(np.float32), cloud(item.row))
    assert layout.classes != datasets.SCANOBJECTNN, "the test must be able to see a shift"


def test_scanobjectnn_with_several_variants_asks_which(tmp_path):
    for name in ("main_split/{}_objectdataset.h5", "main_split_nobg/{}_objectdataset.h5"):
        for split in ("training", "test"):
            write_h5(tmp_path / name.format(split), [cloud(1), cloud(2)], np.array([0, 0]))
    hard = tmp_path / "main_split" / "test_objectdataset_augmentedrot_scale75.h5"
    write_h5(hard, [cloud(1)], np.array([3]))
    with pytest.raises(
        UsageError, match=r"holds 3 variants .*: OBJ_BG, OBJ_ONLY, PB_T50_RS\. Name one, as in"
    ):
        open_layout(tmp_path)
    assert open_layout(tmp_path, "scanobjectnn:OBJ_ONLY").counts == {"train": 2, "test": 2}
    assert open_layout(tmp_path / "main_split_nobg").variant == "OBJ_ONLY"
    assert open_layout(hard).variant == "PB_T50_RS"
    with pytest.raises(UsageError, match="holds no variant 'PB_T25' of ScanObjectNN; it holds OBJ_BG"):
        open_layout(tmp_path, "scanobjectnn:PB_T25")


# ------------------------------------------------------------------------------------------------ parts

PARTS = np.array([0, 1, 2, 2] * 16)


def as_shapenet_v0(root):
    write(root / "synsetoffset2category.txt", "Table\t04379243\nRocket\t04099429\n")
    for seed, (synset, name) in enumerate((s, n) for s in ("04099429", "04379243") for n in ("aa", "bb")):
        write(root / synset / "points" / f"{name}.pts", rows(y_up(cloud(seed))))
        write(root / synset / "points_label" / f"{name}.seg", rows(PARTS + 1))
    shapenet_lists(root)


def as_shapenet_normal(root):
    for seed, (synset, name) in enumerate((s, n) for s in ("04099429", "04379243") for n in ("aa", "bb")):
        base = 41 if synset == "04099429" else 47
        write(root / synset / f"{name}.txt", rows(y_up(cloud(seed)), np.ones((64, 3)), PARTS + base))
    shapenet_lists(root)


def shapenet_lists(root):
    for split, names in {"train": ["aa"], "val": [], "test": ["bb"]}.items():
        listed = [f"shape_data/{synset}/{n}" for synset in ("04099429", "04379243") for n in names]
        write(root / "train_test_split" / f"shuffled_{split}_file_list.json", json.dumps(listed))


def as_shapenet_h5(root):
    order = list(datasets.SHAPENET_PART)
    for split, seeds in (("train", (2, 0)), ("test", (3, 1))):
        labels = np.array([order.index("04379243"), order.index("04099429")], np.uint8)
        pid = np.stack([PARTS + 47, PARTS + 41]).astype(np.uint8)
        write_h5(root / f"ply_data_{split}0.h5", [y_up(cloud(s)) for s in seeds], labels, pid=pid)


SHAPENETS = {
    "shapenet-part": as_shapenet_v0,
    "shapenet-part-normal": as_shapenet_normal,
    "shapenet-part-h5": as_shapenet_h5,
}


@pytest.mark.parametrize("name", SHAPENETS)
def test_shapenet_part_from_three_releases_gives_the_same_points_and_parts(tmp_path, name):
    SHAPENETS[name](tmp_path)
    layout = open_layout(tmp_path)
    assert layout.name == name and layout.has_parts
    assert layout.classes == ("Rocket", "Table")
    assert layout.part_names[1] == ("Table_1", "Table_2", "Table_3")
    assert layout.counts == {"train": 2, "test": 2}
    assert "12,137 train, 1,870 val, 2,874 test" in layout.warnings[-1]
    for item in layout.items:
        seed = 2 * item.label + (item.split == "test")
        shape, parts = load_parts(item)
        np.testing.assert_array_equal(shape.vertices.astype(np.float32), cloud(seed))
        np.testing.assert_array_equal(parts, PARTS)
        drawn = part_points(item, 32)
        np.testing.assert_array_equal(drawn.parts, PARTS[drawn.source])
        assert len(set(drawn.source)) == 32
        assert np.linalg.norm(part_points(item, 64).points, axis=1).max() == pytest.approx(1)


def test_part_points_are_seeded_and_repeat_only_where_there_are_too_few(tmp_path):
    as_shapenet_v0(tmp_path)
    item = open_layout(tmp_path).items[0]
    one, same, other = part_points(item, 100, 1), part_points(item, 100, 1), part_points(item, 100, 2)
    np.testing.assert_array_equal(one.points, same.points)
    assert (one.source != other.source).any()
    assert set(one.source[:64]) == set(range(64))


def test_part_numbers_outside_the_category_are_an_error_with_the_place(tmp_path):
    as_shapenet_v0(tmp_path)
    write(tmp_path / "04379243" / "points_label" / "aa.seg", rows(np.where(np.arange(64) == 5, 4, PARTS + 1)))
    write(tmp_path / "04379243" / "points_label" / "bb.seg", rows(PARTS[:60] + 1))
    items = {i.name: i for i in open_layout(tmp_path).items}
    with pytest.raises(UnreadableShape, match=r"part 4 at point 6 is outside 1 to 3 \(1 such points\)"):
        load_parts(items["Table/aa"])
    with pytest.raises(UnreadableShape, match="64 points but 60 part labels"):
        load_parts(items["Table/bb"])


def test_lists_that_name_absent_or_doubled_shapes(tmp_path):
    as_shapenet_v0(tmp_path)
    lists = tmp_path / "train_test_split"
    write(lists / "shuffled_val_file_list.json", json.dumps(["shape_data/04379243/gone"]))
    (tmp_path / "04099429" / "points_label" / "aa.seg").unlink()
    layout = open_layout(tmp_path)
    assert layout.counts == {"train": 1, "test": 2}
    assert "1 shapes that the lists name are absent (first: 04379243/gone)" in layout.warnings
    assert "1 shapes have no part labels (.seg) and are left out (first: 04099429/aa)" in layout.warnings
    write(lists / "shuffled_val_file_list.json", json.dumps(["shape_data/04379243/aa"]))
    with pytest.raises(CrosshapeError, match="04379243/aa is in two splits: train and val"):
        open_layout(tmp_path)
    write(lists / "shuffled_val_file_list.json", '{"a": ')
    with pytest.raises(CrosshapeError, match="is not a JSON list of names"):
        open_layout(tmp_path)


def as_psb(root):
    for label, name, top in (("Cup", "21", 1), ("Cup", "22", 2), ("Ant", "81", 3), ("Ant", "82", 4)):
        write(root / label / f"{name}.off", TETRAHEDRON.format(top=top))
        write(root / label / f"{name}_labels.txt", "handle\n2 4 \n\nbody\n1 3\n")


def test_labelled_psb_parts_follow_their_faces(tmp_path):
    as_psb(tmp_path)
    layout = open_layout(tmp_path)
    assert layout.name == "labelled-psb" and layout.classes == ("Ant", "Cup")
    assert layout.part_names == (("body", "handle"),) * 2
    assert "4 train; the official counts are 380 train" in layout.warnings[-1]
    for item in layout.items:
        assert load_parts(item).parts.tolist() == [0, 1, 0, 1]
        drawn = part_points(item, 256, seed=3)
        np.testing.assert_array_equal(drawn.parts, drawn.source % 2)
        assert drawn.points.shape == (256, 3) and set(drawn.source) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a\n1 2 3\n", "1 of 4 faces have no part (first: 4)"),
        ("a\n1 2 3 4 5\n", "part 'a' names face 5; there are 4 faces"),
        ("a\n0 1 2 3\n", "part 'a' names face 0; there are 4 faces"),
        ("a\n1 2 3 4\nb\n4\n", "part 'b' names a face that has a part already"),
        ("a\n1 1 2 3 4\n", "part 'a' names a face that has a part already"),
    ],
)
def test_faces_without_or_with_two_parts_are_refused(tmp_path, text, reason):
    as_psb(tmp_path)
    write(tmp_path / "Ant" / "81_labels.txt", text)
    item = next(i for i in open_layout(tmp_path).items if i.name == "Ant/81.off")
    with pytest.raises(UnreadableShape, match=re.escape(reason)):
        load_parts(item)


@pytest.mark.parametrize("up", ["auto", "y", "x"])
def test_parts_stay_with_their_faces_where_loading_drops_faces_without_area(tmp_path, up):
    as_psb(tmp_path)
    flat = TETRAHEDRON.format(top=1).replace("4 4 0", "4 6 0").replace("3 0 1 3", "3 0 1 1\n3 0 1 3")
    write(tmp_path / "Ant" / "81.off", flat + "3 2 2 3\n")
    write(tmp_path / "Ant" / "81_labels.txt", "x\n2 6\nbody\n1 3\nhandle\n4 5\n")
    item = next(i for i in open_layout(tmp_path, up=up).items if i.name == "Ant/81.off")
    shape, parts = load_parts(item)
    assert shape.notes == ("removed faces: 2 of zero area",)
    assert item.part_names == ("body", "handle", "x")
    assert parts.tolist() == [0, 0, 1, 1]
    write(tmp_path / "Ant" / "81.obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\nf 1 1 2\n")
    write(tmp_path / "Ant" / "81_labels.txt", "x\n1 2\n")
    (tmp_path / "Ant" / "81.off").unlink()
    item = next(i for i in open_layout(tmp_path).items if i.name == "Ant/81.obj")
    with pytest.raises(
        UnreadableShape, match="removed faces: 1 of zero area, so its face numbers no longer fit"
    ):
        load_parts(item)


def test_broken_and_missing_part_files_are_counted(tmp_path):
    as_psb(tmp_path)
    write(tmp_path / "Ant" / "81_labels.txt", "1 2 3\n")
    (tmp_path / "Cup" / "21_labels.txt").unlink()
    layout = open_layout(tmp_path)
    assert len(layout.items) == 2
    text = "\n".join(layout.warnings)
    assert "1 shapes have no _labels.txt beside them and are left out (first: Cup/21.off)" in text
    assert "81_labels.txt line 1 has face numbers before the name of a part" in text
    assert "2 classes have one shape only and cannot be both learned and tested (first: Ant)" in text


# --------------------------------------------------------------------------------------------- pictures


def as_pictures(root, views=3):
    for label in ("bed", "sofa"):
        for split in ("train", "test"):
            for name in range(2):
                for view in range(views):
                    path = root / label / split / f"{label}_{name:04d}_{view + 1:03d}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.new("L", (8, 8), 10 * view + name).save(path)


def test_pictures_are_grouped_in_the_order_of_their_numbers(tmp_path):
    as_pictures(tmp_path, 12)
    layout = open_layout(tmp_path)
    assert (layout.name, layout.variant) == ("mvcnn", "12 views") and layout.has_pictures
    assert layout.counts == {"train": 4, "test": 4}
    pictures = load_pictures(layout.items[1])
    assert pictures.shape == (12, 8, 8) and pictures.dtype == np.uint8
    assert pictures[:, 0, 0].tolist() == [10 * view + 1 for view in range(12)]
    assert load_pictures(layout.items[1], 4).shape == (12, 4, 4)
    with pytest.raises(UnreadableShape, match="there are only pictures of it"):
        load_item(layout.items[0])


def test_pictures_that_are_not_square_are_not_squeezed(tmp_path):
    as_pictures(tmp_path)
    item = open_layout(tmp_path).items[0]
    Image.new("L", (8, 9)).save(item.views[1])
    for size in (None, 4):
        with pytest.raises(UnreadableShape, match="bed_0000_002.png is 8 x 9 pixels, not square"):
            load_pictures(item, size)


def test_missing_views_and_broken_pictures_are_said(tmp_path):
    as_pictures(tmp_path)
    (tmp_path / "bed" / "train" / "bed_0000_002.png").unlink()
    (tmp_path / "bed" / "test" / "bed_0001_003.png").rename(tmp_path / "bed" / "test" / "bed_0001_004.png")
    (tmp_path / "sofa" / "train" / "whole.png").write_bytes(b"")
    broken = tmp_path / "sofa" / "test" / "sofa_0000_001.png"
    broken.write_bytes(broken.read_bytes()[:40])
    layout = open_layout(tmp_path)
    assert len(layout.items) == 6
    text = "\n".join(layout.warnings)
    assert (
        "2 shapes do not have the 3 views that the others have and are left out (first: bed/test/bed_0001"
        in text
    )
    assert (
        "1 pictures are not named CLASS/SPLIT/NAME_001.png and are left out (first: sofa/train/whole.png)"
        in text
    )
    item = next(i for i in layout.items if i.name == "sofa/test/sofa_0000")
    with pytest.raises(UnreadableShape, match="sofa_0000_001.png is not a whole picture"):
        load_pictures(item)


# ------------------------------------------------------------------------------------ bad h5, CSV, folders


def test_labels_outside_the_range_are_an_error(tmp_path):
    write_h5(tmp_path / "ply_data_train0.h5", [cloud(1), cloud(2), cloud(3)], np.array([0, 40, 41]))
    text = r"train0.h5 row 1: label 40 is outside 0 to 39 \(2 such rows\)"
    with pytest.raises(CrosshapeError, match=text):
        open_layout(tmp_path)
    write_h5(tmp_path / "ply_data_train0.h5", [cloud(1), cloud(2)], np.array([0, -1]))
    with pytest.raises(CrosshapeError, match="row 1: label -1 is outside"):
        open_layout(tmp_path)
    write_h5(tmp_path / "ply_data_train0.h5", [cloud(1), cloud(2)], np.array([0, 1, 1]))
    with pytest.raises(CrosshapeError, match="has 2 shapes and 3 labels"):
        open_layout(tmp_path)


def test_own_class_names_of_an_h5_are_sorted(tmp_path):
    write_h5(tmp_path / "ply_data_train0.h5", [cloud(i) for i in range(4)], np.array([0, 1, 0, 1]))
    write(tmp_path / "shape_names.txt", "zebra\nant\n")
    write(tmp_path / "train_files.txt", "ply_data_train0.h5\nply_data_train1.h5\n")
    layout = open_layout(tmp_path)
    assert layout.classes == ("ant", "zebra")
    assert {i.row: layout.classes[i.label] for i in layout.items} == {
        0: "zebra",
        1: "ant",
        2: "zebra",
        3: "ant",
    }
    assert layout.warnings == ("1 h5 files that the lists name are absent (first: ply_data_train1.h5)",)


def test_names_that_disagree_with_the_labels_are_not_used(tmp_path):
    as_h5(tmp_path)
    write(
        tmp_path / "ply_data_train_0_id2file.json", json.dumps(["chair/chair_0001.ply", "xbox/xbox_0001.ply"])
    )
    layout = open_layout(tmp_path)
    text = "ply_data_train_0_id2file.json does not agree with the labels; its names are not used"
    assert text in layout.warnings
    assert [i.name for i in layout.of("train")] == [
        "chair/ply_data_train0_00001",
        "xbox/ply_data_train0_00000",
    ]


@pytest.mark.parametrize("keep", [0, 100, 900])
def test_a_truncated_h5_is_said(tmp_path, keep):
    as_h5(tmp_path)
    file = tmp_path / "ply_data_test0.h5"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CrosshapeError, match=r"test0\.h5 is not a whole HDF5 file; it may be cut short"):
        open_layout(tmp_path)


def test_h5_links_out_of_the_file_are_refused(tmp_path):
    write_h5(tmp_path / "other" / "secret.h5", [cloud(1)], np.array([0]))
    with h5py.File(tmp_path / "ply_data_train0.h5", "w") as table:
        table["data"] = h5py.ExternalLink(str(tmp_path / "other" / "secret.h5"), "/data")
        table["label"] = np.array([0])
    with pytest.raises(CrosshapeError, match="holds no plain dataset 'data'"):
        open_layout(tmp_path)


def test_points_that_are_no_numbers_are_unreadable(tmp_path):
    bad = cloud(1)
    bad[3, 1] = np.nan
    write_h5(tmp_path / "ply_data_train0.h5", [bad, np.zeros((64, 3), np.float32)], np.array([0, 1]))
    items = open_layout(tmp_path).items
    with pytest.raises(UnreadableShape, match="1 points are not finite numbers"):
        load_item(items[0])
    with pytest.raises(UnreadableShape, match="all its points are the same"):
        load_item(items[1])
    as_normal_resampled(tmp_path / "b")
    write(tmp_path / "b" / "chair" / "chair_0001.txt", "1,2,3\n1,2\n")
    with pytest.raises(UnreadableShape, match="chair_0001.txt is not a table of numbers"):
        load_item(open_layout(tmp_path / "b").items[0])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("file,class\na.npy,b\n", "the first line must name the columns path,label and, if any, split"),
        ("path,label\n,b\n", "line 2: path and label must not be empty"),
        ("path,label,split\na.npy,b,exam\n", "line 2: split is 'exam'; it must be train, val or test"),
        ("path,label\nshapes.csv,b\n", "line 2: shapes.csv is no kind of shape that can be read"),
        (
            "path,label\ngone.npy,b\n",
            r"holds no shapes in the layout 'csv' .* 1 shapes that the CSV names are absent",
        ),
        ("path,label\na.npy,b\na.npy,c\n", "names the same shape twice: a.npy"),
        ("path,label,split\na.npy,b,train\n./a.npy,b,test\n", "names the same shape twice: a.npy"),
        (f"path,label\n{'a' * 200_000},b\n", r"shapes.csv line \d: field larger than"),
    ],
)
def test_csv_that_cannot_be_meant(tmp_path, text, problem):
    write_cloud(tmp_path / "a.npy", cloud(1))
    write(tmp_path / "shapes.csv", text)
    with pytest.raises(CrosshapeError, match=problem):
        open_layout(tmp_path / "shapes.csv")


def test_a_csv_that_is_no_text(tmp_path):
    (tmp_path / "shapes.csv").write_bytes("path,label\nh\xf6he.npy,b\n".encode("latin-1"))
    with pytest.raises(CrosshapeError, match=r"shapes.csv is not a text file in UTF-8"):
        open_layout(tmp_path / "shapes.csv")


@pytest.mark.parametrize("split", ["", "train/"])
def test_two_files_of_one_shape_are_one_shape(tmp_path, split):
    """On both sides of a drawn split they would be learned and asked."""
    for label in "ab":
        for number in range(5):
            write_cloud(tmp_path / label / split / f"{number}.npy", cloud(number))
            write(tmp_path / label / split / f"{number}.xyz", rows(cloud(number)))
    layout = open_layout(tmp_path)
    assert len(layout.items) == 10 and all(item.name.endswith(".npy") for item in layout.items)
    assert "10 files are other forms of a shape that is taken already" in layout.warnings[-1]


def test_a_shape_of_modelnet_in_two_splits_is_an_error(tmp_path):
    for split in ("train", "test"):
        write_cloud(tmp_path / "chair" / split / "chair_0001.npy", cloud(1))
    with pytest.raises(CrosshapeError, match="chair/chair_0001 is in two splits: "):
        open_layout(tmp_path)


def test_own_numbers_may_begin_anew_in_every_split(tmp_path):
    for split in ("train", "test"):
        for label in "ab":
            write_cloud(tmp_path / label / split / "1.npy", cloud(1))
    assert open_layout(tmp_path).counts == {"train": 2, "test": 2}


def test_linked_class_folders_are_read_or_counted(tmp_path):
    for label in "abc":
        for number in range(2):
            write_cloud(tmp_path / "all" / label / "train" / f"{number}.npy", cloud(number))
            write_cloud(tmp_path / "plain" / label / f"{number}.npy", cloud(number))
    for name in ("all", "plain"):
        (tmp_path / f"{name}2").mkdir()
        for label in "ab":
            (tmp_path / f"{name}2" / label).symlink_to(tmp_path / name / label)
        (tmp_path / name / "c").rename(tmp_path / f"{name}2" / "c")
    assert open_layout(tmp_path / "all2").classes == ("a", "b", "c")
    layout = open_layout(tmp_path / "plain2")
    assert layout.classes == ("c",) and layout.warnings[0].startswith("2 links are not followed")


def test_a_table_of_two_columns_is_no_cloud(tmp_path):
    write(tmp_path / "a" / "train" / "1.txt", "1 2\n3 4\n")
    for up in ("auto", "y"):
        with pytest.raises(UnreadableShape, match=r"its table has the shape \(2, 2\); a cloud has three"):
            load_item(open_layout(tmp_path, up=up).items[0])


def test_one_file_of_scanobjectnn_is_read_wherever_it_lies(tmp_path):
    file = tmp_path / "mine" / "test_objectdataset_augmentedrot_scale75.h5"
    write_h5(file, [cloud(i) for i in range(3)], [0, 1, 2])
    assert open_layout(file).variant == open_layout(tmp_path / "mine").variant == "PB_T50_RS"


def test_what_fits_no_layout_is_said(tmp_path):
    with pytest.raises(CrosshapeError, match="does not exist"):
        open_layout(tmp_path / "none")
    with pytest.raises(CrosshapeError, match="fits no known layout"):
        open_layout(tmp_path)
    write(tmp_path / "notes" / "readme.md", "hello")
    with pytest.raises(CrosshapeError, match="fits no known layout"):
        open_layout(tmp_path)
    with pytest.raises(
        CrosshapeError, match=r"holds no shapes in the layout 'mvcnn' \(CLASS/train/NAME_001.png"
    ):
        open_layout(tmp_path, "mvcnn")
    with pytest.raises(UsageError, match="there is no layout 'modelnett'; did you mean 'modelnet'?"):
        open_layout(tmp_path, "modelnett")
    with pytest.raises(CrosshapeError, match="is one file; give a folder"):
        open_layout(tmp_path / "notes" / "readme.md")


# -------------------------------------------------------------------------------------------- splitting


def as_folders(root, sizes):
    for label, count in sizes.items():
        for i in range(count):
            write_cloud(root / label / f"{i}.npy", cloud(i))


def test_five_fifths_are_stratified_disjoint_and_cover_everything(tmp_path):
    as_folders(tmp_path, {"a": 23, "b": 5, "c": 2, "d": 1})
    layout = open_layout(tmp_path)
    assert layout.name == "folders" and not layout.has_test
    assert layout.warnings == (
        "1 classes have one shape only and cannot be both learned and tested (first: d)",
    )
    folds = [split_items(layout, fifth, seed=3) for fifth in range(1, 6)]
    held = [{i.name for i in fold.of("test")} for fold in folds]
    assert sum(map(len, held)) == len(set.union(*held)) == 30
    for fold in folds:
        sizes = [sum(i.label == label for i in fold.of("test")) for label in range(4)]
        assert sizes[0] in (4, 5) and sizes[1] == 1 and sizes[2] in (0, 1) and sizes[3] == 0
        assert len(fold.items) == 31 and fold.labels.tolist() == layout.labels.tolist()
    assert "too small for this fifth and have no test shape (first: c)" in folds[0].warnings[-1]
    assert folds[0].note.endswith("test split: fifth 1 of 5 of every class, 5 shapes, seed 3")


def test_the_split_depends_on_names_and_seed_only(tmp_path):
    as_folders(tmp_path / "one", {"a": 20})
    as_folders(tmp_path / "two", {"a": 20, "b": 20})
    one, two = (open_layout(tmp_path / name) for name in ("one", "two"))
    names = {i.name for i in split_items(one, 2).of("test")}
    assert names == {i.name for i in split_items(two, 2).of("test") if i.name.startswith("a/")}
    assert names != {i.name for i in split_items(one, 2, seed=1).of("test")}


def test_split_errors(tmp_path):
    as_clouds(tmp_path)
    with pytest.raises(UsageError, match="has a test split of its own"):
        split_items(open_layout(tmp_path))
    as_folders(tmp_path / "f", {"a": 3})
    with pytest.raises(UsageError, match="there is no fifth 6; --split takes 1 to 5"):
        split_items(open_layout(tmp_path / "f", "folders"), 6)


def test_fingerprint_follows_the_data_not_the_place(tmp_path):
    for name in ("one", "two"):
        as_clouds(tmp_path / name)
    one, two = (open_layout(tmp_path / name) for name in ("one", "two"))
    assert one.fingerprint == two.fingerprint
    write_cloud(tmp_path / "two" / "chair" / "test" / "chair_0002.npy", cloud(1, 99))
    assert open_layout(tmp_path / "two").fingerprint != one.fingerprint


def test_up_can_be_named(tmp_path):
    as_folders(tmp_path, {"a": 2})
    turned = load_item(open_layout(tmp_path, up="y").items[0]).vertices
    np.testing.assert_array_equal(
        turned, load_item(open_layout(tmp_path).items[0]).vertices[:, [0, 2, 1]] * [1, -1, 1]
    )


def test_command_describes_a_folder(tmp_path, capsys):
    as_clouds(tmp_path)
    assert main(["datasets", str(tmp_path), "--classes"]) == 0
    said = capsys.readouterr()
    assert (
        "ModelNet40 as .npy files: 2 train, 2 test shapes in 2 classes (layout modelnet, fingerprint"
        in said.out
    )
    assert "warning: a partial copy is used: 2 train, 2 test;" in said.err
    assert main(["datasets", str(tmp_path), "--json"]) == 0
    line = json.loads(capsys.readouterr().out)
    assert line["classes"] == {"chair": {"train": 1, "test": 1}, "xbox": {"train": 1, "test": 1}}
    assert line["complete"] is False and line["layout"] == "modelnet"
    assert main(["datasets", str(tmp_path / "none")]) == 1


# ------------------------------------------------------------------------------------------- real shapes


@pytest.mark.real
def test_real_layouts_are_recognised_and_read():
    import os
    from pathlib import Path

    real = Path(os.environ["CROSSHAPE_TEST_DATA"])
    clouds = open_layout(real / "ModelNet40")
    assert clouds.name == "modelnet" and clouds.counts == {"train": 9843} and len(clouds.classes) == 40
    psb = open_layout(real / "labeled-psb")
    assert psb.name == "labelled-psb" and len(psb.items) == 190 and len(psb.classes) == 19
    for item in psb.items:
        assert len(load_parts(item).parts) > 0
    shapenet = open_layout(real / "formats" / "shapenet-part")
    assert shapenet.name == "shapenet-part" and len(shapenet.items) == 16
    for item in shapenet.items:
        assert load_parts(item).parts.max() < len(item.part_names)
    meshes = open_layout(real / "meshes")
    assert meshes.name == "folders" and len(meshes.items) == 1558 and len(meshes.classes) == 69


def test_pictures_of_sixteen_bits_are_scaled(tmp_path):
    from crosshape.search.pictures import read_picture

    as_pictures(tmp_path)
    ramp = np.full((64, 64), 255, np.uint8)
    ramp[16:48, 16:48] = np.linspace(40, 200, 32, dtype=np.uint8)
    deep = Image.fromarray(ramp.astype(np.uint16) * 257)
    assert deep.mode.startswith("I")
    item = open_layout(tmp_path).items[0]
    for path in item.views:
        deep.save(path)
    np.testing.assert_array_equal(load_pictures(item)[0], ramp)
    Image.fromarray(ramp).save(tmp_path / "flat.png")
    np.testing.assert_array_equal(
        read_picture(str(item.views[0]), 32), read_picture(str(tmp_path / "flat.png"), 32)
    )
