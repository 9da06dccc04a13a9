"""The data sets this field measures on: where they come from, how large they are, whether a copy is whole.

Only what is known is stated: a checksum stands here where somebody published one, and `None` where not.
`fetch` downloads what its owners offer without a form, resumes where it stopped, unpacks member by member.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import os
import re
import shutil
import stat
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable
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
"""Synset -> category and number of parts; the global part numbers 0 to 49 run through them in this order."""

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
"""Shapes in each split; where a data set is used in two sizes, both. What is absent has no official count."""


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
        "9,843 / 2,468, or 3,183 / 800", "https://github.com/jongchyisu/mvcnn_pytorch", _MODELNET,
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


@dataclass(frozen=True)
class UnpackLimits:
    """What an archive may hold."""

    members: int = 1_000_000
    bytes: int = 100 << 30
    ratio: int = 1000
    """Bytes unpacked for a byte packed, in members above a megabyte."""


def fetch(
    entry: Known, folder: Path, progress: Callable[[int, int], None] | None = None, attempts: int = 5
) -> list[Path]:
    """Download and unpack a data set into `folder`; returns what came out, sorted.

    Continues a download that was cut short, checks its length (and MD5 where one is known), then unpacks
    every member under a temporary name and moves it into place. `progress(done, total)` counts bytes; total
    is 0 where the server does not say. Raises CrosshapeError; what was downloaded stays for the next time.
    """
    if entry.archive is None:
        raise CrosshapeError(f"{entry.name} cannot be fetched by a program: {entry.note} ({entry.home}).")
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / PurePosixPath(entry.archive).name
    if not archive.is_file():
        part = archive.with_name(archive.name + ".part")
        _download(entry.archive, part, progress or (lambda done, total: None), attempts)
        if entry.md5 is not None and md5(part) != entry.md5:
            part.unlink()
            raise CrosshapeError(
                f"{entry.archive}: the download does not have the known MD5; it was removed."
            )
        os.replace(part, archive)
    return unpack(archive, folder)


def _download(url: str, part: Path, progress: Callable[[int, int], None], attempts: int) -> None:
    """The file at `url` into `part`, from where it stopped; tries again while it gets further."""
    mark = part.with_name(part.name + ".etag")
    for _ in range(attempts):
        start = part.stat().st_size if part.exists() else 0
        try:
            total = _download_rest(url, part, mark, start, progress)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # more is here than there: not the same file
                part.unlink()
                continue
            raise CrosshapeError(f"{url}: the server answers {error.code} {error.reason}.") from None
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise
            done = part.stat().st_size if part.exists() else 0
            if done > start:
                continue
            reason = getattr(error, "reason", None) or error
            raise CrosshapeError(
                f"{url} cannot be reached ({reason}); {done:,} bytes are kept and the same command continues."
            ) from None
        size = part.stat().st_size
        if not total or size == total:
            mark.unlink(missing_ok=True)
            return
        if size > total:
            part.unlink()
    done = part.stat().st_size if part.exists() else 0
    raise CrosshapeError(
        f"{url} broke off {attempts} times; {done:,} bytes are kept, run the same command again."
    )


def _download_rest(url: str, part: Path, mark: Path, start: int, progress: Callable[[int, int], None]) -> int:
    """Append what is missing from byte `start`; returns the whole length, 0 where it is not said."""
    headers = {"User-Agent": "crosshape", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if mark.exists():
            headers["If-Range"] = mark.read_text()
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
        span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if answer.status == 206 and (not span or int(span[1]) != start):
            raise CrosshapeError(f"{url}: the server sends another part than was asked for.")
        if answer.status == 206 and span:
            total = 0 if span[2] == "*" else int(span[2])
        else:
            start, total = 0, int(answer.headers.get("Content-Length", 0))
        if shutil.disk_usage(part.parent).free < total - start:
            raise CrosshapeError(
                f"{part.parent} has no room for {total - start:,} bytes; free some and repeat."
            )
        tag = answer.headers.get("ETag", "")
        if tag and not tag.startswith("W/"):
            mark.write_text(tag)
        with part.open("ab" if start else "wb") as file:
            while block := answer.read(1 << 18):
                file.write(block)
                start += len(block)
                progress(start, total)
    return total


def unpack(archive: Path, folder: Path, limits: UnpackLimits | None = None) -> list[Path]:
    """Every member of a zip, checked by name, size and CRC, into `folder`; returns the top names, sorted.

    Refused as a whole, leaving nothing behind: absolute names, names that leave the folder, links, encrypted
    members, doubles, and more than `limits` allow. Nothing that is there already is overwritten.
    """
    limits = limits or UnpackLimits()
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [m for m in packed.infolist() if not _rubbish(m.filename)]
            _check_members(archive, members, limits)
            tops = sorted({PurePosixPath(m.filename).parts[0] for m in members})
            for top in tops:
                if (folder / top).exists():
                    raise CrosshapeError(
                        f"{folder / top} is there already; move it away to unpack {archive.name}."
                    )
            with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder) as place:
                for member in members:
                    target = Path(place, *PurePosixPath(member.filename).parts)
                    if member.is_dir():
                        target.mkdir(parents=True, exist_ok=True)
                        continue
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with packed.open(member) as source, target.open("xb") as out:
                        shutil.copyfileobj(source, out, 1 << 20)
                for top in tops:
                    os.rename(Path(place, top), folder / top)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise CrosshapeError(f"{archive} is no whole zip ({error}); delete it and fetch it again.") from None
    except (FileExistsError, NotADirectoryError) as error:
        raise CrosshapeError(f"{archive} holds a name twice: {Path(error.filename or '').name}.") from None
    return [folder / top for top in tops]


def _rubbish(name: str) -> bool:
    """What macOS adds to an archive."""
    return name.startswith("__MACOSX/") or name.split("/")[-1] in (".DS_Store", "Thumbs.db")


def _check_members(archive: Path, members: list[zipfile.ZipInfo], limits: UnpackLimits) -> None:
    if len(members) > limits.members:
        raise CrosshapeError(f"{archive} holds {len(members):,} members; the limit is {limits.members:,}.")
    total = 0
    for member in members:
        name = member.filename
        parts = PurePosixPath(name).parts
        kind = stat.S_IFMT(member.external_attr >> 16)
        total += member.file_size
        if not parts or name.startswith("/") or ".." in parts or re.search(r"[\\:\x00-\x1f]", name):
            problem = "would be written outside the folder"
        elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            problem = "is a link or a device"
        elif member.flag_bits & 1:
            problem = "is encrypted"
        elif member.file_size > max(limits.ratio * member.compress_size, 1 << 20):
            problem = f"unpacks {member.file_size:,} bytes from {member.compress_size:,}"
        elif total > limits.bytes:
            problem = f"brings the whole to more than {limits.bytes:,} bytes"
        else:
            continue
        raise CrosshapeError(f"{archive}: member {name!r} {problem}; nothing was unpacked.")


def md5(path: Path) -> str:
    """The MD5 of a file, as data sets publish it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def damaged(files: Iterable[Path]) -> list[Path]:
    """Those of the ModelNet40 h5 files that do not have their known MD5."""
    return [f for f in files if f.name in MODELNET40_H5_MD5 and md5(f) != MODELNET40_H5_MD5[f.name]]
