"""The data sets this field measures on: where they come from, how large they are, whether a copy is whole.

Only what is known is stated: a checksum stands here where somebody published one, and `None` where not.
`fetch` downloads what its owners offer without a form, resumes where it stopped, and unpacks member by member.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from crosshape.errors import CrosshapeError

MODELNET10 = (
    "bathtub", "bed", "chair", "desk", "dresser", "monitor", "night_stand", "sofa", "table", "toilet",
)  # fmt: skip

MODELNET40 = (
    "airplane", "bathtub", "bed", "bench", "bookshelf", "bottle", "bowl", "car", "chair", "cone", "cup",
    "curtain", "desk", "door", "dresser", "flower_pot", "glass_box", "guitar", "keyboard", "lamp", "laptop",
    "mantel", "monitor", "night_stand", "person", "piano", "plant", "radio", "range_hood", "sink", "sofa",
    "stairs", "stool", "table", "tent", "toilet", "tv_stand", "vase", "wardrobe", "xbox",
)  # fmt: skip

SCANOBJECTNN = (
    "bag", "bin", "box", "cabinet", "chair", "desk", "display", "door", "shelf", "table", "bed", "pillow",
    "sink", "sofa", "toilet",
)  # fmt: skip
"""The order of the numbers in its h5 files, which is not sorted."""

SCANOBJECTNN_VARIANTS = {
    "OBJ_BG": "main_split/*_objectdataset.h5",
    "OBJ_ONLY": "main_split_nobg/*_objectdataset.h5",
    "PB_T25": "main_split/*_objectdataset_augmented25_norot.h5",
    "PB_T25_R": "main_split/*_objectdataset_augmented25rot.h5",
    "PB_T50_R": "main_split/*_objectdataset_augmentedrot.h5",
    "PB_T50_RS": "main_split/*_objectdataset_augmentedrot_scale75.h5",
}

SHAPENET_PART = {
    "02691156": ("Airplane", 4),
    "02773838": ("Bag", 2),
    "02954340": ("Cap", 2),
    "02958343": ("Car", 4),
    "03001627": ("Chair", 4),
    "03261776": ("Earphone", 3),
    "03467517": ("Guitar", 3),
    "03624134": ("Knife", 2),
    "03636649": ("Lamp", 4),
    "03642806": ("Laptop", 2),
    "03790512": ("Motorbike", 6),
    "03797390": ("Mug", 2),
    "03948459": ("Pistol", 3),
    "04099429": ("Rocket", 3),
    "04225987": ("Skateboard", 3),
    "04379243": ("Table", 3),
}
"""Synset -> category and number of parts. Both orders agree, so global part numbers 0..49 run through them."""

MODELNET40_H5_MD5 = {
    "ply_data_train0.h5": "3176385ffc31a7b6b5af22191fd920d1",
    "ply_data_train1.h5": "e3f613fb500559403b34925112754dc4",
    "ply_data_train2.h5": "0c56e233a090ff87c3049d4ce08e7d8b",
    "ply_data_train3.h5": "9d2af465adfa33a3285c369f3ca66c45",
    "ply_data_train4.h5": "dff38de489b2c41bfaeded86c2208984",
    "ply_data_test0.h5": "e9732e6d83b09e79e9a7617df058adee",
    "ply_data_test1.h5": "aba4b12a67c34391cc3c015a6f08ed4b",
}
"""As several public loaders carry them; not published by the owners."""

OFFICIAL: dict[str, tuple[dict[str, int], ...]] = {
    "ModelNet40": ({"train": 9843, "test": 2468},),
    "ModelNet10": ({"train": 3991, "test": 908},),
    "ModelNet40 h5": ({"train": 9840, "test": 2468},),
    "MVCNN": ({"train": 9843, "test": 2468}, {"train": 3183, "test": 800}),
    "ShapeNet-Part": ({"train": 12137, "val": 1870, "test": 2874},),
    "ScanObjectNN OBJ_BG": ({"train": 2309, "test": 581},),
    "ScanObjectNN OBJ_ONLY": ({"train": 2309, "test": 581},),
    "ScanObjectNN PB_T50_RS": ({"train": 11416, "test": 2882},),
    "labelled PSB": ({"train": 380},),
}
"""Shapes in each split; where a data set is used in two sizes, both. What is not here has no official count."""


@dataclass(frozen=True)
class Known:
    """A data set: what it is, where it comes from, on what terms; `archive` where it may be fetched."""

    name: str
    title: str
    layout: str
    classes: int
    counts: str
    home: str
    licence: str
    archive: str | None = None
    md5: str | None = None
    note: str = ""


_STANFORD = "the host has refused connections for many users since September 2024"
_MODELNET = "no licence named; for academic research, the models belong to their makers"
_SHAPENET = "ShapeNet terms of use: non-commercial research and education"

KNOWN: tuple[Known, ...] = (
    Known(
        "modelnet40", "ModelNet40, meshes (OFF)", "modelnet", 40, "9,843 / 2,468",
        "https://modelnet.cs.princeton.edu", _MODELNET,
        "http://modelnet.cs.princeton.edu/ModelNet40.zip",
    ),
    Known(
        "modelnet10", "ModelNet10, meshes (OFF)", "modelnet", 10, "3,991 / 908",
        "https://modelnet.cs.princeton.edu", _MODELNET,
        "http://vision.princeton.edu/projects/2014/3DShapeNets/ModelNet10.zip",
    ),
    Known(
        "modelnet40-h5", "ModelNet40, 2,048 points (modelnet40_ply_hdf5_2048)", "modelnet-h5", 40,
        "9,840 / 2,468", "https://github.com/charlesq34/pointnet", _MODELNET,
        "https://shapenet.cs.stanford.edu/media/modelnet40_ply_hdf5_2048.zip",
        note=f"checksums of the h5 files are known; {_STANFORD}",
    ),
    Known(
        "modelnet40-normal", "ModelNet40, 10,000 points with normals (modelnet40_normal_resampled)",
        "modelnet-normal", 40, "9,843 / 2,468", "https://github.com/charlesq34/pointnet2", _MODELNET,
        "https://shapenet.cs.stanford.edu/media/modelnet40_normal_resampled.zip", note=_STANFORD,
    ),
    Known(
        "shapenet-part", "ShapeNet-Part v0 (.pts and .seg)", "shapenet-part", 16, "12,137 / 1,870 / 2,874",
        "https://web.stanford.edu/~ericyi/project_page/part_annotation/", _SHAPENET,
        "https://shapenet.cs.stanford.edu/ericyi/shapenetcore_partanno_segmentation_benchmark_v0.zip",
        note=_STANFORD,
    ),
    Known(
        "shapenet-part-normal", "ShapeNet-Part with normals (txt)", "shapenet-part-normal", 16,
        "12,137 / 1,870 / 2,874", "https://github.com/charlesq34/pointnet2", _SHAPENET,
        "https://shapenet.cs.stanford.edu/media/shapenetcore_partanno_segmentation_benchmark_v0_normal.zip",
        note=_STANFORD,
    ),
    Known(
        "shapenet-part-h5", "ShapeNet-Part, 2,048 points (h5)", "shapenet-part-h5", 16,
        "12,137 / 1,870 / 2,874", "https://github.com/charlesq34/pointnet", _SHAPENET,
        "https://shapenet.cs.stanford.edu/media/shapenet_part_seg_hdf5_data.zip", note=_STANFORD,
    ),
    Known(
        "scanobjectnn", "ScanObjectNN, scanned objects (h5)", "scanobjectnn", 15,
        "2,309 / 581 (OBJ_BG, OBJ_ONLY), 11,416 / 2,882 (PB_T50_RS)",
        "https://hkust-vgd.github.io/scanobjectnn/", "terms to be accepted in a form on its page",
        note="fill in the form, then give the h5_files folder",
    ),
    Known(
        "labelled-psb", "labelled Princeton Segmentation Benchmark (OFF and part names)", "labelled-psb", 19,
        "380 meshes", "https://people.cs.umass.edu/~kalo/papers/LabelMeshes/",
        "for research; the meshes belong to their makers",
        note="a 7z archive on its page; unpack it into CLASS/ID.off and CLASS/ID_labels.txt",
    ),
    Known(
        "mvcnn", "MVCNN pictures of ModelNet40, 12 views", "mvcnn", 40,
        "9,843 / 2,468, or 3,183 / 800 for the subset", "https://github.com/jongchyisu/mvcnn_pytorch", _MODELNET,
        note="an archive on its page",
    ),
)  # fmt: skip


def known(name: str) -> Known:
    """The data set of that name. Raises CrosshapeError that offers the names there are."""
    for entry in KNOWN:
        if entry.name == name:
            return entry
    import difflib

    near = difflib.get_close_matches(name, [e.name for e in KNOWN], n=1)
    hint = f"; did you mean '{near[0]}'?" if near else "; crosshape datasets lists what is known."
    raise CrosshapeError(f"there is no data set '{name}'{hint}")
