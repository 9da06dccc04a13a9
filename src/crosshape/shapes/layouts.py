"""Folders that others use, read as one thing: classes, items with a split, and arrays of an item on demand.

Class lists are sorted by name whatever order the files number them in, and every number is checked on the way,
so labels never shift. Nothing is loaded until an item is asked for. Points come out Z up, whatever the release.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from crosshape.errors import CrosshapeError, UnreadableShape, UsageError
from crosshape.settings import Limits
from crosshape.shapes import datasets

if TYPE_CHECKING:
    from crosshape.shapes.files import Shape

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
class Item:
    """One labelled shape: where it lies and what it is; everything that is needed to load it, nothing loaded."""

    name: str
    label: int
    split: str
    path: Path
    row: int | None = None
    """The row in an h5 file."""
    parts: Path | None = None
    """The file with the part of every point or face; may be `path` itself."""
    part_names: tuple[str, ...] = ()
    part_base: int = 0
    """The number in the file that means the first part of this class."""
    views: tuple[Path, ...] = ()
    """Pictures of the shape, in the order of their numbers."""
    up: str = "auto"


class Labelled(NamedTuple):
    """A shape with the part (0-based, within its class) of every face of a mesh or every point of a cloud."""

    shape: Shape
    parts: np.ndarray


class PartPoints(NamedTuple):
    """points (N, 3) float32 in the unit sphere, parts (N,) int64 within the class, source (N,) its face or point."""

    points: np.ndarray
    parts: np.ndarray
    source: np.ndarray


@dataclass(frozen=True)
class Layout:
    """A labelled data set on disk. `classes` is sorted by name; `items` by name, `label` indexes `classes`."""

    name: str
    variant: str
    path: Path
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
        """12 hex digits over names, classes, splits and file sizes: the same data gives the same ones anywhere."""
        digest = hashlib.sha256(repr((self.name, self.variant, self.classes)).encode())
        for item in self.items:
            size = item.path.stat().st_size if item.path.is_file() else 0
            digest.update(repr((item.name, item.label, item.split, item.row, size)).encode())
        return digest.hexdigest()[:12]


def open_layout(path: str | Path, layout: str | None = None, up: str = "auto") -> Layout:
    """What a folder, an h5 or a CSV file holds; recognised by itself, or read as the named layout.

    `up` overrides the axis that points up in its files. Raises CrosshapeError where nothing fits or what is
    there contradicts itself, UsageError for an unknown layout; what is only missing becomes a warning.
    """
    raise NotImplementedError


def split_items(layout: Layout, fifth: int = 1, seed: int = 0) -> Layout:
    """The same layout with a test split: the `fifth`-th (1 to 5) fifth of every class, in a seeded order.

    The five fifths of one seed are disjoint and cover everything. The order depends on names and seed only. A
    class with one shape stays in training. Raises UsageError where there is a test split or no such fifth.
    """
    raise NotImplementedError


def load_item(item: Item, limits: Limits = Limits()) -> Shape:
    """The shape of an item, Z up. Raises UnreadableShape with the reason, or where the item is only pictures."""
    raise NotImplementedError


def load_parts(item: Item, limits: Limits = Limits()) -> Labelled:
    """The shape and its parts as they are in the files. Raises UnreadableShape where the two do not fit."""
    raise NotImplementedError


def part_points(item: Item, count: int = 2048, seed: int = 0, limits: Limits = Limits()) -> PartPoints:
    """`count` points of the shape in the unit sphere with their parts; seeded by content and `seed`.

    A mesh is sampled by area and a point takes the part of its face; of a cloud points are drawn, each at most
    once while there are enough.
    """
    raise NotImplementedError


def load_pictures(item: Item, size: int | None = None) -> np.ndarray:
    """(V, S, S) uint8: the grey pictures of an item, scaled to `size`. Raises UnreadableShape."""
    raise NotImplementedError
