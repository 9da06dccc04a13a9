"""Folders that others use, read as one thing: classes, items with a split, and arrays of an item on demand.

Class lists are sorted by name whatever order the files number them in, and every number is checked,
so labels never shift. Nothing is loaded until an item is asked for. Points come out Z up.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from crosshape.errors import CrosshapeError, UnreadableShape, UsageError
from crosshape.files import parse_json
from crosshape.places import Address
from crosshape.settings import Limits
from crosshape.shapes import datasets
from crosshape.shapes.items import Item, h5_dataset, open_h5, read_part_file
from crosshape.shapes.items import Labelled as Labelled
from crosshape.shapes.items import PartPoints as PartPoints
from crosshape.shapes.items import load_item as load_item
from crosshape.shapes.items import load_parts as load_parts
from crosshape.shapes.items import load_pictures as load_pictures
from crosshape.shapes.items import part_points as part_points

LAYOUTS = {
    "modelnet": "CLASS/train/NAME.off and CLASS/test/NAME.off; also clouds (.npy, .ply, .txt)",
    "modelnet10": "the ten classes of ModelNet10 out of any ModelNet40 layout",
    "modelnet-normal": "modelnet40_normal_resampled: CLASS/NAME.txt and modelnet40_train.txt",
    "modelnet-h5": "modelnet40_ply_hdf5_2048: ply_data_train0.h5 ... ply_data_test1.h5",
    "scanobjectnn": "main_split/training_objectdataset.h5 ...; scanobjectnn:PB_T50_RS names a variant",
    "shapenet-part": "SYNSET/points/ID.pts and SYNSET/points_label/ID.seg",
    "shapenet-part-normal": "SYNSET/ID.txt (x y z nx ny nz part) and train_test_split/*.json",
    "shapenet-part-h5": "ply_data_train0.h5 ... with data, label and pid",
    "labelled-psb": "CLASS/ID.off and CLASS/ID_labels.txt: a part's name, then its 1-based faces",
    "mvcnn": "CLASS/train/NAME_001.png ... : the views of NAME",
    "folders": "CLASS/anything: the first folder is the class",
    "csv": "a file with the columns path, label and, if there is one, split",
}

SPLITS = ("train", "val", "test")
_SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
}
_VIEW = re.compile(r"(?P<name>.+?)(?:\.obj)?(?:\.shaded)?_v?(?P<view>\d{1,3})\.(?:png|jpe?g)", re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """A labelled data set: `classes` and `items` sorted by name, `Item.label` indexes `classes`."""

    name: str
    variant: str
    path: Path | Address
    classes: tuple[str, ...]
    items: tuple[Item, ...]
    note: str
    warnings: tuple[str, ...] = ()
    complete: bool | None = None
    """Whether the counts are the official ones; None where there are none to compare with."""

    @property
    def counts(self) -> dict[str, int]:
        """Shapes in each split that is not empty."""
        found = Counter(item.split for item in self.items)
        return {split: found[split] for split in SPLITS if found[split]}

    @property
    def has_test(self) -> bool:
        return any(item.split == "test" for item in self.items)

    @property
    def has_parts(self) -> bool:
        """Whether its items carry labels of parts."""
        return any(item.parts is not None for item in self.items)

    @property
    def has_pictures(self) -> bool:
        """Whether its items are pictures, not shapes."""
        return any(item.views for item in self.items)

    @property
    def part_names(self) -> tuple[tuple[str, ...], ...]:
        """The parts of each class, in the order of `classes`."""
        names: list[tuple[str, ...]] = [()] * len(self.classes)
        for item in self.items:
            names[item.label] = item.part_names
        return tuple(names)

    @property
    def labels(self) -> np.ndarray:
        """(N,) int64: the class of every item."""
        return np.array([item.label for item in self.items], np.int64)

    def of(self, *splits: str) -> tuple[Item, ...]:
        """The items of these splits, in order."""
        return tuple(item for item in self.items if item.split in splits)

    @property
    def fingerprint(self) -> str:
        """12 hex digits over names, classes, splits and file sizes; the same wherever the data lie."""
        digest = hashlib.sha256(repr((self.name, self.variant, self.classes)).encode())
        for item in self.items:
            size = item.path.stat().st_size if item.path.is_file() else 0
            digest.update(repr((item.name, item.label, item.split, item.row, size)).encode())
        return digest.hexdigest()[:12]


@dataclass
class _Draft:
    """What a reader found, with classes still by name."""

    title: str
    official: str = ""
    variant: str = ""
    up: str = "auto"
    items: list[tuple[str, Item]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def warn(self, names: Sequence[object], text: str) -> None:
        """A counted warning with the first name; nothing where there are none."""
        if names:
            self.warnings.append(f"{len(names):,} {text} (first: {names[0]})")


def open_layout(path: str | Path, layout: str | None = None, up: str = "auto") -> Layout:
    """What a folder, an h5 or a CSV file holds; recognised by itself, or read as the named layout.

    `up` overrides the axis that points up in its files. Raises CrosshapeError where nothing fits or what is
    there contradicts itself, UsageError for an unknown layout; what is only missing becomes a warning.
    """
    root = Path(path).resolve()
    if (root / "_versions").is_dir():
        raise CrosshapeError(f"{path} is a library, and libraries hold no labels of parts. Name a data set.")
    wanted, _, variant = (layout or "").partition(":")
    if wanted and wanted not in LAYOUTS:
        near = difflib.get_close_matches(wanted, LAYOUTS, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else f"; known are {', '.join(LAYOUTS)}"
        raise UsageError(f"there is no layout '{wanted}'{hint}")
    if not root.exists():
        raise CrosshapeError(f"{path} does not exist.")
    only_ten = wanted == "modelnet10"
    name = wanted if wanted and not only_ten else _recognise(root)
    if variant and name != "scanobjectnn":
        raise UsageError(f"layout '{name}' has no variants; only scanobjectnn:VARIANT does")
    draft = _READERS[name](root, variant)
    if only_ten:
        draft.items = [(c, item) for c, item in draft.items if c in datasets.MODELNET10]
        draft.title, draft.official = draft.title.replace("ModelNet40", "ModelNet10"), "ModelNet10"
    if not draft.items:
        left_out = "".join(f" {w[0].upper()}{w[1:]}." for w in draft.warnings)
        raise CrosshapeError(f"{path} holds no shapes in the layout '{name}' ({LAYOUTS[name]}).{left_out}")
    return _finish(name, root, draft, up)


def _finish(name: str, root: Path, draft: _Draft, up: str) -> Layout:
    """Number the classes, sort the items, compare the counts with the official ones."""
    axis = draft.up if up == "auto" else up
    classes = tuple(sorted({c for c, _ in draft.items}))
    number = {c: i for i, c in enumerate(classes)}
    items = tuple(
        sorted((replace(item, label=number[c], up=axis) for c, item in draft.items), key=lambda i: i.name)
    )
    twice = [n for n, count in Counter(i.name for i in items).items() if count > 1]
    if twice:
        raise CrosshapeError(f"{root} names the same shape twice: {twice[0]}")
    items, forms = one_file_a_shape(items)
    draft.warn(forms, OTHER_FORMS)
    sizes = Counter(item.label for item in items)
    lonely = [c for c in classes if sizes[number[c]] == 1]
    draft.warn(lonely, "classes have one shape only and cannot be both learned and tested")
    made = Layout(name, draft.variant, root, classes, items, "", ())
    official = datasets.OFFICIAL.get(draft.official, ())
    complete = any(made.counts == counts for counts in official) if official else None
    counts = ", ".join(f"{count:,} {split}" for split, count in made.counts.items())
    title = f"{draft.title} ({draft.variant})" if draft.variant else draft.title
    note = f"{title}: {counts} shapes in {len(classes)} classes"
    if complete:
        note += ", complete"
    elif official:
        whole = ", ".join(f"{count:,} {split}" for split, count in official[0].items())
        draft.warnings.append(f"a partial copy is used: {counts}; the official counts are {whole}")
    return replace(made, note=note, warnings=tuple(draft.warnings), complete=complete)


OTHER_FORMS = "files are other forms of a shape that is taken already, and are left out"
"""What is said of those that `one_file_a_shape` leaves out, after their number."""


def one_file_a_shape(items: Sequence[Item]) -> tuple[tuple[Item, ...], list[str]]:
    """Items by name -> those without the ones that differ in nothing but the suffix of their files from one before,
    and the names of these: a shape and its other form on both sides of a split would be learned and asked.
    """
    known: set[str] = set()
    kept, forms = [], []
    for item in items:
        suffix = "" if item.row is not None else item.path.suffix or PurePosixPath(item.name).suffix
        stem = item.name.removesuffix(suffix)
        (forms.append(item.name) if stem in known else kept.append(item))
        known.add(stem)
    return tuple(kept), forms


# --------------------------------------------------------------------------------------------- recognising


def _folders(folder: Path) -> list[Path]:
    """The folders in it and links to folders, sorted; hidden ones left out."""
    with os.scandir(folder) as entries:
        found = [e.path for e in entries if e.is_dir() and e.name[0] not in "._"]
    return [Path(p) for p in sorted(found)]


def _files(folder: Path, suffixes: Iterable[str]) -> list[Path]:
    """The files in it with one of these suffixes, sorted."""
    known = tuple(suffixes)
    with os.scandir(folder) as entries:
        found = [
            e.path for e in entries if e.name[0] != "." and e.name.lower().endswith(known) and e.is_file()
        ]
    return [Path(p) for p in sorted(found)]


def _shape_suffixes() -> tuple[str, ...]:
    from crosshape.shapes.files import FORMATS

    return tuple(FORMATS)


def _recognise(root: Path) -> str:
    """The name of the layout that fits. Raises CrosshapeError that says what was looked for."""
    if root.is_file():
        if root.suffix.lower() == ".csv":
            return "csv"
        if root.suffix.lower() in (".h5", ".hdf5"):
            return _recognise_h5([root])
        raise CrosshapeError(f"{root} is one file; give a folder, a CSV (path,label,split) or an h5 file.")
    tables = _files(root, (".h5", ".hdf5"))
    if tables:
        return _recognise_h5(tables)
    folders = _folders(root)
    if any(f.name in ("main_split", "main_split_nobg") for f in folders):
        return "scanobjectnn"
    synsets = [f for f in folders if f.name in datasets.SHAPENET_PART]
    if synsets:
        return "shapenet-part" if any((f / "points").is_dir() for f in synsets) else "shapenet-part-normal"
    if any((root / f"modelnet{size}_train.txt").is_file() for size in (10, 40)):
        return "modelnet-normal"
    if any(next(f.glob("*_labels.txt"), None) for f in folders):
        return "labelled-psb"
    split = [s for f in folders for s in _folders(f) if s.name.lower() in _SPLIT_NAMES]
    if split:
        pictures = next((f for s in split for f in _files(s, _PICTURES)), None)
        return "mvcnn" if pictures and not any(_files(s, _shape_suffixes()) for s in split) else "modelnet"
    from crosshape.shapes.files import find_shapes

    if folders and find_shapes(root):
        return "folders"
    raise CrosshapeError(
        f"{root} fits no known layout: no class folders with shapes, no h5 files, no list of a data set."
        " crosshape datasets --layouts lists them; a CSV (path,label,split) describes any other folder."
    )


def _recognise_h5(tables: list[Path]) -> str:
    if any("objectdataset" in t.name for t in tables):
        return "scanobjectnn"
    with open_h5(tables[0]) as table:
        return "shapenet-part-h5" if "pid" in table else "modelnet-h5"


# ------------------------------------------------------------------------------- folders of shapes, pictures


def _read_modelnet(root: Path, variant: str) -> _Draft:
    draft = _Draft("class folders with splits")
    suffixes = (*_shape_suffixes(), ".txt")
    stray: list[str] = []
    standard = True
    for folder in _folders(root):
        stray += [f.relative_to(root).as_posix() for f in _files(folder, suffixes)]
        for inner in _folders(folder):
            split = _SPLIT_NAMES.get(inner.name.lower())
            files = _files(inner, suffixes)
            if split is None:
                stray += [f.relative_to(root).as_posix() for f in files]
                continue
            for file in files:
                standard &= re.fullmatch(re.escape(folder.name) + r"_\d{4}", file.stem) is not None
                draft.items.append((folder.name, Item(file.relative_to(root).as_posix(), -1, split, file)))
    draft.warn(stray, "files lie outside CLASS/train and CLASS/test and are left out")
    classes = {c for c, _ in draft.items}
    if standard and classes and classes <= set(datasets.MODELNET40):
        _lists(
            (item.split, [f"{c}/{item.path.stem}"]) for c, item in draft.items
        )  # official numbers are unique
        draft.official = "ModelNet10" if classes <= set(datasets.MODELNET10) else "ModelNet40"
        kinds = Counter(item.path.suffix.lower() for _, item in draft.items)
        draft.title = f"{draft.official} as {' and '.join(sorted(kinds))} files"
    return draft


def _read_folders(root: Path, variant: str) -> _Draft:
    from crosshape.shapes.files import find_shapes

    draft = _Draft("class folders")
    links: list[Path] = []
    found = find_shapes(root, links)
    draft.warn(sorted(str(link) for link in links), "links are not followed: name the folders they lead to")
    draft.items = [(f.name.split("/")[0], Item(f.name, -1, "train", f.path)) for f in found if "/" in f.name]
    draft.warn([f.name for f in found if "/" not in f.name], "files lie in no class folder and are left out")
    return draft


def _read_mvcnn(root: Path, variant: str) -> _Draft:
    draft = _Draft("pictures of shapes", official="MVCNN")
    groups: dict[tuple[str, str, str], list[tuple[int, Path]]] = {}
    stray = []
    for folder in _folders(root):
        for inner in _folders(folder):
            split = _SPLIT_NAMES.get(inner.name.lower())
            for file in _files(inner, _PICTURES):
                match = _VIEW.fullmatch(file.name)
                if match and split:
                    groups.setdefault((folder.name, split, match["name"]), []).append(
                        (int(match["view"]), file)
                    )
                else:
                    stray.append(file.relative_to(root).as_posix())
    draft.warn(stray, "pictures are not named CLASS/SPLIT/NAME_001.png and are left out")
    if not groups:
        return draft
    sizes = Counter(len({number for number, _ in views}) for views in groups.values())
    count = max(sizes, key=lambda size: (sizes[size], size))
    draft.variant = f"{count} views"
    broken = []
    for (label, split, name), views in sorted(groups.items()):
        numbers = sorted(number for number, _ in views)
        path = views[0][1].parent
        if len(views) != count or numbers != list(range(numbers[0], numbers[0] + count)):
            broken.append(f"{label}/{split}/{name} has {len(views)}")
            continue
        ordered = tuple(file for _, file in sorted(views))
        draft.items.append((label, Item(f"{label}/{split}/{name}", -1, split, path, views=ordered)))
    draft.warn(broken, f"shapes do not have the {count} views that the others have and are left out")
    return draft


def _read_csv(root: Path, variant: str) -> _Draft:
    draft = _Draft("a CSV of shapes")
    absent: list[str] = []
    suffixes = (*_shape_suffixes(), ".txt", ".pts")
    with io.StringIO(_text(root, "utf-8-sig"), newline="") as lines:
        table = csv.DictReader(lines)
        try:
            columns, rows = set(table.fieldnames or ()), [(table.line_num, row) for row in table]
        except csv.Error as error:
            raise CrosshapeError(f"{root} line {table.line_num}: {error}.") from None
        if not {"path", "label"} <= columns:
            raise CrosshapeError(
                f"{root}: the first line must name the columns path,label and, if any, split."
            )
        for number, row in rows:
            where = f"{root} line {number}"
            name, label, split = row["path"], row["label"], row.get("split") or "train"
            if not name or not label:
                raise CrosshapeError(f"{where}: path and label must not be empty.")
            if split.lower() not in _SPLIT_NAMES:
                raise CrosshapeError(f"{where}: split is '{split}'; it must be train, val or test.")
            name = os.path.normpath(name).replace(os.sep, "/")
            file = root.parent / name
            if not file.is_file():
                absent.append(name)
            elif file.suffix.lower() not in suffixes:
                raise CrosshapeError(f"{where}: {name} is no kind of shape that can be read.")
            else:
                draft.items.append((label, Item(name, -1, _SPLIT_NAMES[split.lower()], file)))
    draft.warn(absent, "shapes that the CSV names are absent")
    return draft


# ---------------------------------------------------------------------------------- releases with list files


def _lists(names: Iterable[tuple[str, Iterable[str]]]) -> dict[str, str]:
    """Shape -> split. Raises CrosshapeError where two splits name the same shape."""
    split_of: dict[str, str] = {}
    for split, members in names:
        for member in members:
            if split_of.setdefault(member, split) != split:
                raise CrosshapeError(f"{member} is in two splits: {split_of[member]} and {split}.")
    return split_of


def _text(path: Path, encoding: str = "utf-8") -> str:
    try:
        return path.read_text(encoding=encoding)
    except UnicodeDecodeError:
        raise CrosshapeError(f"{path} is not a text file in UTF-8.") from None


def _read_modelnet_normal(root: Path, variant: str) -> _Draft:
    size = "40" if (root / "modelnet40_train.txt").is_file() else "10"
    draft = _Draft(f"ModelNet{size} with normals", official=f"ModelNet{size}", up="y")
    files = {s: root / f"modelnet{size}_{s}.txt" for s in ("train", "test")}
    split_of = _lists((s, _text(f).split()) for s, f in files.items() if f.is_file())
    absent = []
    for name, split in split_of.items():
        label, _, number = name.rpartition("_")
        file = root / label / f"{name}.txt"
        if not label or not number.isdigit():
            raise CrosshapeError(f"{files[split]}: '{name}' is not CLASS_NUMBER, as in chair_0001.")
        if file.is_file():
            draft.items.append((label, Item(f"{label}/{name}.txt", -1, split, file)))
        else:
            absent.append(name)
    draft.warn(absent, "shapes that the lists name are absent")
    named = set(split_of)
    extra = [f.stem for d in _folders(root) for f in _files(d, (".txt",)) if f.stem not in named]
    draft.warn(extra, "files are in no list and are left out")
    return draft


def _read_shapenet_part(root: Path, variant: str) -> _Draft:
    return _shapenet(root, "ShapeNet-Part v0", "points", ".pts")


def _read_shapenet_part_normal(root: Path, variant: str) -> _Draft:
    return _shapenet(root, "ShapeNet-Part with normals", "", ".txt")


def _shapenet(root: Path, title: str, inner: str, suffix: str) -> _Draft:
    draft = _Draft(title, official="ShapeNet-Part", up="y")
    lists = {s: root / "train_test_split" / f"shuffled_{s}_file_list.json" for s in SPLITS}
    split_of = _lists((s, _json_names(f)) for s, f in lists.items() if f.is_file())
    if not split_of:
        draft.warnings.append("no list in train_test_split: every shape counts as training")
    found: set[str] = set()
    unlisted, unlabelled = [], []
    for synset, (label, parts) in datasets.SHAPENET_PART.items():
        folder = root / synset / inner
        for file in _files(folder, (suffix,)) if folder.is_dir() else []:
            key = f"{synset}/{file.stem}"
            found.add(key)
            labels = root / synset / "points_label" / f"{file.stem}.seg" if inner else file
            split = split_of.get(key, "" if split_of else "train")
            if not labels.is_file():
                unlabelled.append(key)
            elif not split:
                unlisted.append(key)
            else:
                base = 1 if inner else _part_offset(label)
                names = tuple(f"{label}_{i + 1}" for i in range(parts))
                item = Item(
                    f"{label}/{file.stem}", -1, split, file, parts=labels, part_names=names, part_base=base
                )
                draft.items.append((label, item))
    draft.warn(unlabelled, "shapes have no part labels (.seg) and are left out")
    draft.warn(unlisted, "shapes are in no list and are left out")
    draft.warn(sorted(set(split_of) - found), "shapes that the lists name are absent")
    return draft


def _json_names(path: Path) -> list[str]:
    """["shape_data/02691156/ID", ...] -> ["02691156/ID", ...]"""
    try:
        names = parse_json(_text(path))
        return ["/".join(name.split("/")[-2:]) for name in names]
    except (ValueError, AttributeError, TypeError):
        raise CrosshapeError(f"{path} is not a JSON list of names.") from None


def _part_offset(label: str) -> int:
    """The global number (0 to 49) of the first part of a ShapeNet-Part category."""
    start = 0
    for name, parts in datasets.SHAPENET_PART.values():
        if name == label:
            return start
        start += parts
    raise KeyError(label)


def _read_labelled_psb(root: Path, variant: str) -> _Draft:
    draft = _Draft("meshes with labelled parts")
    unlabelled, broken = [], []
    for folder in _folders(root):
        names: set[str] = set()
        items = []
        for file in _files(folder, _shape_suffixes()):
            labels = file.with_name(f"{file.stem}_labels.txt")
            name = file.relative_to(root).as_posix()
            if not labels.is_file():
                unlabelled.append(name)
                continue
            try:
                names |= set(read_part_file(labels))
                items.append(Item(name, -1, "train", file, parts=labels))
            except UnreadableShape as error:
                broken.append(f"{name}: {error.reason}")
        ordered = tuple(sorted(names))
        draft.items += [(folder.name, replace(item, part_names=ordered)) for item in items]
    draft.warn(unlabelled, "shapes have no _labels.txt beside them and are left out")
    draft.warn(broken, "files of part labels cannot be read")
    if all(item.path.suffix.lower() == ".off" and item.path.stem.isdigit() for _, item in draft.items):
        draft.title, draft.official = "labelled Princeton Segmentation Benchmark", "labelled PSB"
    return draft


# -------------------------------------------------------------------------------------------------- h5 files


def _h5_labels(path: Path, classes: int) -> np.ndarray:
    """(N,) int64 class numbers, checked against the points beside them and the number of classes."""
    with open_h5(path) as table:
        data = h5_dataset(table, path, "data")
        if data.ndim != 3 or data.shape[2] < 3 or data.dtype.kind != "f":
            raise CrosshapeError(f"{path}: data has the shape {data.shape}; it must be (shapes, points, 3).")
        if data.size * 8 > Limits().memory:
            raise CrosshapeError(f"{path}: data would take {data.size * 8 / 1e9:.1f} GB; split the file.")
        try:
            labels = h5_dataset(table, path, "label")[()].reshape(-1)
        except OSError:
            raise CrosshapeError(f"{path} is damaged: its labels cannot be read. Fetch it again.") from None
    if labels.dtype.kind not in "iu" or len(labels) != data.shape[0]:
        raise CrosshapeError(
            f"{path} has {data.shape[0]:,} shapes and {len(labels):,} labels ({labels.dtype})."
        )
    wrong = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(wrong):
        raise CrosshapeError(
            f"{path} row {wrong[0]}: label {labels[wrong[0]]} is outside 0 to {classes - 1}"
            f" ({len(wrong):,} such rows). Is this another data set? Name it with --layout."
        )
    return labels.astype(np.int64)


def _read_modelnet_h5(root: Path, variant: str) -> _Draft:
    draft = _Draft("ModelNet40 as h5 of 2,048 points", official="ModelNet40 h5", up="y")
    folder = root if root.is_dir() else root.parent
    names_file = folder / "shape_names.txt"
    classes = tuple(_text(names_file).split()) if names_file.is_file() else datasets.MODELNET40
    if set(classes) - set(datasets.MODELNET40):
        draft.title, draft.official, draft.up = "shapes in h5 files", "", "auto"
    for file, split in _h5_files(root, draft, {"train": "train_files.txt", "test": "test_files.txt"}):
        for row, (label, name) in enumerate(_h5_names(file, classes, draft)):
            draft.items.append((label, Item(name, -1, split, file, row=row)))
    return draft


def _h5_names(file: Path, classes: Sequence[str], draft: _Draft) -> Iterator[tuple[str, str]]:
    """Class and name of every row; the names of `..._id2file.json` where it agrees with the labels."""
    labels = _h5_labels(file, len(classes))
    plain = [f"{classes[label]}/{file.stem}_{row:05d}" for row, label in enumerate(labels)]
    listed = file.with_name(re.sub(r"(\d+)$", r"_\1_id2file", file.stem) + ".json")
    if listed.is_file():
        names = [name.removesuffix(".ply") for name in _json_names(listed)]
        fits = len(set(names)) == len(names) == len(labels) and all(
            name.split("/")[0] == classes[label] for name, label in zip(names, labels, strict=True)
        )
        if fits:
            plain = names
        else:
            draft.warnings.append(f"{listed.name} does not agree with the labels; its names are not used")
    return zip((classes[label] for label in labels), plain, strict=True)


def _h5_files(root: Path, draft: _Draft, lists: dict[str, str]) -> list[tuple[Path, str]]:
    """Each h5 file with its split, read off its name; a warning counts the absent ones that a list names."""
    files = [root] if root.is_file() else _files(root, (".h5", ".hdf5"))
    found = []
    for file in files:
        split = next(
            (s for word, s in _SPLIT_NAMES.items() if re.search(rf"(^|_){word}", file.stem.lower())), None
        )
        if split is None:
            raise CrosshapeError(f"{file}: the name of an h5 file must say train, val or test.")
        found.append((file, split))
    if root.is_dir():
        named = [
            Path(n).name for f in lists.values() if (root / f).is_file() for n in _text(root / f).split()
        ]
        draft.warn([n for n in named if not (root / n).is_file()], "h5 files that the lists name are absent")
    return found


def _read_shapenet_part_h5(root: Path, variant: str) -> _Draft:
    draft = _Draft("ShapeNet-Part as h5 of 2,048 points", official="ShapeNet-Part", up="y")
    classes = [label for label, _ in datasets.SHAPENET_PART.values()]
    counts = dict(datasets.SHAPENET_PART.values())
    for file, split in _h5_files(root, draft, {s: f"{s}_hdf5_file_list.txt" for s in SPLITS}):
        with open_h5(file) as table:
            pid = h5_dataset(table, file, "pid")
            if pid.shape != h5_dataset(table, file, "data").shape[:2]:
                raise CrosshapeError(f"{file}: pid has the shape {pid.shape}, not one part for each point.")
        for row, label in enumerate(_h5_labels(file, len(classes))):
            name = classes[label]
            parts = tuple(f"{name}_{i + 1}" for i in range(counts[name]))
            item = Item(
                f"{name}/{file.stem}_{row:05d}", -1, split, file, row, file, parts, _part_offset(name)
            )
            draft.items.append((name, item))
    return draft


def _read_scanobjectnn(root: Path, variant: str) -> _Draft:
    variants = datasets.SCANOBJECTNN_VARIANTS
    base = holder = root if root.is_dir() else root.parent
    if base.name in ("main_split", "main_split_nobg"):
        base = base.parent
    found: dict[str, list[Path]] = {}
    for name, pattern in variants.items():
        inside, ending = pattern.split("/*")
        folders = [base / inside] + ([holder] if holder == base else [])
        files = [f for d in folders if d.is_dir() for f in _files(d, (ending,)) if f.name.endswith(ending)]
        if root.is_file():
            files = files if root in files else []
        elif root != base:
            files = files if root.name == inside else []
        if files:
            found[name] = files
    if variant and variant not in found:
        raise UsageError(
            f"{root} holds no variant '{variant}' of ScanObjectNN; it holds {', '.join(found) or 'none'}"
        )
    if len(found) > 1 and not variant:
        raise UsageError(
            f"{root} holds {len(found)} variants of ScanObjectNN: {', '.join(found)}."
            f" Name one, as in --layout scanobjectnn:{next(iter(found))}"
        )
    if not found:
        raise CrosshapeError(f"{root} holds none of the h5 files of ScanObjectNN.")
    chosen = variant or next(iter(found))
    draft = _Draft("ScanObjectNN", f"ScanObjectNN {chosen}", chosen, up="y")
    for file in found[chosen]:
        split = "train" if file.name.startswith("training") else "test"
        for row, label in enumerate(_h5_labels(file, len(datasets.SCANOBJECTNN))):
            name = datasets.SCANOBJECTNN[label]
            draft.items.append((name, Item(f"{name}/{file.stem}_{row:05d}", -1, split, file, row)))
    return draft


_PICTURES = (".png", ".jpg", ".jpeg")

_READERS: dict[str, Callable[[Path, str], _Draft]] = {
    "modelnet": _read_modelnet,
    "modelnet-normal": _read_modelnet_normal,
    "modelnet-h5": _read_modelnet_h5,
    "scanobjectnn": _read_scanobjectnn,
    "shapenet-part": _read_shapenet_part,
    "shapenet-part-normal": _read_shapenet_part_normal,
    "shapenet-part-h5": _read_shapenet_part_h5,
    "labelled-psb": _read_labelled_psb,
    "mvcnn": _read_mvcnn,
    "folders": _read_folders,
    "csv": _read_csv,
}


# ------------------------------------------------------------------------------------------------- splitting


def split_items(layout: Layout, fifth: int = 1, seed: int = 0) -> Layout:
    """The same layout with a test split: the `fifth`-th (1 to 5) fifth of every class, in a seeded order.

    The five fifths of one seed are disjoint and cover every class of two shapes and more. The order depends
    on names and seed only. A class with one shape stays in training. Raises UsageError where there is a test
    split or no such fifth.
    """
    if layout.has_test:
        raise UsageError(f"{layout.path} has a test split of its own; leave --split out")
    if not 1 <= fifth <= 5:
        raise UsageError(f"there is no fifth {fifth}; --split takes 1 to 5")
    members: dict[int, list[Item]] = {}
    for item in layout.items:
        members.setdefault(item.label, []).append(item)
    held: set[str] = set()
    bare = []
    for label, items in members.items():
        order = sorted(items, key=lambda i: hashlib.sha256(f"{seed}/{i.name}".encode()).digest())
        start, stop = (len(items) * (fifth - 1)) // 5, (len(items) * fifth) // 5
        chosen = [item.name for item in order[start:stop]] if len(items) > 1 else []
        held.update(chosen)
        if not chosen:
            bare.append(layout.classes[label])
    remarks = list(layout.warnings)
    if bare:
        remarks.append(
            f"{len(bare)} classes are too small for this fifth and have no test shape (first: {bare[0]})"
        )
    split = tuple(replace(i, split="test") if i.name in held else i for i in layout.items)
    note = f"{layout.note}; test split: fifth {fifth} of 5 of every class, {len(held):,} shapes, seed {seed}"
    return replace(layout, items=split, note=note, warnings=tuple(remarks))
