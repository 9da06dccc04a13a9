"""Hostile pictures, models and runs: a typed reason in bounded time, nothing else opened, nothing run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import re
import shutil
import struct
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import TINY
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_datasets import HOSTILE as ARCHIVES
from test_datasets import packed
from test_hostile import fuzzed, note, opened

from crosshape.errors import CrosshapeError, UnreadableShape
from crosshape.learning.run import read_settings
from crosshape.networks.model import load_model, untrained_model
from crosshape.networks.weights import convert
from crosshape.search.pictures import read_picture
from crosshape.settings import Limits
from crosshape.shapes.datasets import unpack
from crosshape.shapes.guard import Guard

LIMITS = Limits(memory=1 << 29, seconds=20.0)
NONE = "^it is no PNG, JPEG or WebP picture$"
BROKEN = r"^it cannot be decoded \("
hooked = False


def drawn(mode: str = "RGB", size: tuple[int, int] = (64, 48), kind: str = "PNG", **options: Any) -> bytes:
    grey = np.full(size[::-1], 240, np.uint8)
    grey[12:36, 10:50] = np.linspace(40, 160, 40, dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(grey).convert("RGB").convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def chunk(kind: bytes, body: bytes, crc: int | None = None) -> bytes:
    crc = zlib.crc32(kind + body) if crc is None else crc
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", crc)


def png(width: int, height: int, pixels: bytes, *more: bytes, depth: int = 8, colour: int = 0) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    tail = chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(more) + tail


def rows(width: int, height: int) -> bytes:
    packer = zlib.compressobj(9)
    line = bytes(width + 1)
    return b"".join([*(packer.compress(line) for _ in range(height)), packer.flush()])


def pictures() -> dict[str, tuple[bytes, str | None]]:
    """name -> (bytes, the reason it must get; None: it must be read; "LOADS OR: ...": either)."""
    sound = {kind: drawn(kind=kind) for kind in ("PNG", "JPEG", "WEBP")}
    found: dict[str, tuple[bytes, str | None]] = {}
    for kind, whole in sound.items():
        end = kind.lower()
        found[f"sound.{end}"] = (whole, None)
        for i, part in enumerate((0, 1, 3, 7, 11, 16, 24)):
            found[f"head_{i}.{end}"] = (whole[:part], f"{NONE}|{BROKEN}")
        for i, part in enumerate((0.3, 0.5, 0.7, 0.9, 0.98)):
            found[f"cut_{i}.{end}"] = (whole[: int(part * len(whole))], f"LOADS OR: {NONE}|{BROKEN}")
        found[f"zeros.{end}"] = (bytes(5000), NONE)
        found[f"text.{end}"] = (b"<html>not here</html>", NONE)
        found[f"pickle.{end}"] = (b"\x80\x04\x95\x10\x00\x00\x00cos\nsystem\n", NONE)
        found[f"tail.{end}"] = (whole + bytes(100_000), None)
    for other in ("GIF", "BMP", "TIFF", "PPM", "ICO", "TGA", "EPS", "PDF"):
        found[f"{other.lower()}.png"] = (drawn(kind=other), NONE)
    found["svg.png"] = (
        b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>',
        NONE,
    )
    for mode in ("1", "L", "P", "RGBA", "LA", "I;16"):
        found[f"mode_{mode.replace(';', '')}.png"] = (drawn(mode if mode != "I;16" else "L"), None)
    found["cmyk.jpg"] = (drawn("CMYK", kind="JPEG"), None)
    found["progressive.jpg"] = (drawn(kind="JPEG", progressive=True), None)
    frames = [Image.new("RGB", (32, 32), (i, i, i)) for i in range(0, 200, 40)]
    stream = io.BytesIO()
    frames[0].save(stream, "WEBP", save_all=True, append_images=frames[1:])
    found["moving.webp"] = (stream.getvalue(), None)
    found["wide.png"] = (png(2_000_000_000, 1, b""), "the limit is 40 million pixels$")
    found["tall.png"] = (png(1, 2_000_000_000, b""), "the limit is 40 million pixels$")
    found["bomb.png"] = (
        png(30_000, 30_000, rows(30_000, 30_000)),
        "^30,000 x 30,000 pixels; the limit is 40 million",
    )
    found["below_limit.png"] = (png(6000, 6000, rows(6000, 6000)), None)
    found["no_width.png"] = (png(0, 50, rows(0, 50)), f"{NONE}|{BROKEN}|8 x 8 are the least")
    found["dot.png"] = (png(1, 1, rows(1, 1)), "^1 x 1 pixels; 8 x 8 are the least$")
    found["few_rows.png"] = (png(100, 100, rows(100, 10)), f"LOADS OR: {BROKEN}")
    found["many_rows.png"] = (png(100, 100, rows(100, 100_000)), f"LOADS OR: {BROKEN}")
    found["no_rows.png"] = (png(100, 100, b""), BROKEN)
    found["not_deflated.png"] = (png(100, 100, b"rubbish" * 50), f"LOADS OR: {BROKEN}")
    found["depth_3.png"] = (png(100, 100, rows(100, 100), depth=3), f"{NONE}|{BROKEN}")
    found["colour_9.png"] = (png(100, 100, rows(100, 100), colour=9), f"{NONE}|{BROKEN}")
    found["palette_without.png"] = (png(100, 100, rows(100, 100), colour=3), f"LOADS OR: {BROKEN}")
    text_bomb = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000), 9))
    found["text_bomb.png"] = (png(100, 100, rows(100, 100), text_bomb), f"LOADS OR: {BROKEN}|{NONE}")
    colour_bomb = chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(80_000_000), 9))
    found["profile_bomb.png"] = (png(100, 100, rows(100, 100), colour_bomb), f"LOADS OR: {BROKEN}|{NONE}")
    many = b"".join(chunk(b"tEXt", b"a\0b") for _ in range(50_000))
    found["many_chunks.png"] = (png(100, 100, rows(100, 100), many), f"LOADS OR: {BROKEN}|{NONE}")
    found["wrong_crc.png"] = (
        png(100, 100, rows(100, 100), chunk(b"gAMA", b"\0\0\0\1", crc=1)),
        f"LOADS OR: {BROKEN}|{NONE}",
    )
    long = struct.pack(">I", 0x7FFFFFFF) + b"tEXt"
    found["long_chunk.png"] = (sound["PNG"][:33] + long + sound["PNG"][33:], f"{NONE}|{BROKEN}")
    jpeg = bytearray(sound["JPEG"])
    place = jpeg.index(b"\xff\xc0")
    jpeg[place + 5 : place + 9] = b"\xff\xff\xff\xff"
    found["bomb.jpg"] = (bytes(jpeg), "^65,535 x 65,535 pixels; the limit is 40 million")
    exif = b"\xff\xe1" + struct.pack(">H", 40) + b"Exif\0\0MM\0*" + b"\xff" * 28
    found["exif.jpg"] = (sound["JPEG"][:2] + exif + sound["JPEG"][2:], f"LOADS OR: {BROKEN}")
    loop = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x87\x69\0\x04\0\0\0\x01\0\0\0\x08\0\0\0\x08"
    exif = b"\xff\xe1" + struct.pack(">H", len(loop) + 2) + loop
    found["exif_loop.jpg"] = (sound["JPEG"][:2] + exif + sound["JPEG"][2:], f"LOADS OR: {BROKEN}")
    webp = bytearray(sound["WEBP"])
    webp[4:8] = b"\xff\xff\xff\xff"
    found["long.webp"] = (bytes(webp), f"LOADS OR: {NONE}|{BROKEN}")
    return found


PICTURES = pictures()


def audited_picture(path: Path) -> tuple[Any, list[str], float]:
    """The picture or the reason, what was opened meanwhile, and the processor time; runs in a child."""
    global hooked
    if not hooked:
        read_picture(path.with_name("sound.png"), 64)  # its imports open files too
        for kind in ("jpeg", "webp"):
            read_picture(path.with_name(f"sound.{kind}"), 64)
        sys.addaudithook(note)
        hooked = True
    opened.clear()
    start = time.process_time()
    try:
        result: Any = read_picture(path, 64)
    except UnreadableShape as error:
        result = error.reason
    return result, list(opened), time.process_time() - start


def test_every_hostile_picture_gives_a_true_reason(tmp_path: Path) -> None:
    for name, (content, _) in PICTURES.items():
        (tmp_path / name).write_bytes(content)
    wrong = []
    with Guard(1, LIMITS) as guard:
        for path, answer in guard.map(audited_picture, sorted(tmp_path.iterdir())):
            if isinstance(answer, UnreadableShape):
                wrong.append(f"{path.name} ended its child: {answer.reason}")
                continue
            result, touched, seconds = answer
            want = PICTURES[path.name][1]
            outside = [name for name in touched if not name.startswith(os.path.realpath(tmp_path) + os.sep)]
            if outside:
                wrong.append(f"{path.name} touched {outside}")
            if seconds > 5:
                wrong.append(f"{path.name} took {seconds:.1f} s")
            if isinstance(result, np.ndarray):
                if want is not None and not want.startswith("LOADS OR"):
                    wrong.append(f"{path.name} is read; expected {want!r}")
                assert result.shape == (64, 64) and result.dtype == np.uint8
            elif want is None or not re.search(want.removeprefix("LOADS OR: "), result):
                wrong.append(f"{path.name}: {result!r}; expected {want!r}")
    assert not wrong, f"{len(wrong)} of {len(PICTURES)}:\n" + "\n".join(wrong)
    assert len(PICTURES) >= 80


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_fuzz_of_pictures(kind: str, tmp_path: Path) -> None:
    """Changed bytes of a sound picture are read or give a reason."""
    whole = drawn(kind=kind)
    change = st.tuples(st.integers(0, len(whole)), st.integers(0, 8), st.binary(min_size=1, max_size=4))

    @fuzzed
    @given(st.lists(change, min_size=1, max_size=4))
    def run(changes: list[tuple[int, int, bytes]]) -> None:
        data = whole
        for place, gone, piece in changes:
            data = data[:place] + piece + data[place + gone :]
        (tmp_path / "picture").write_bytes(data)
        try:
            seen = read_picture(tmp_path / "picture", 32)
        except UnreadableShape as error:
            assert error.reason
        else:
            assert seen.shape == (32, 32)

    run()


@pytest.fixture(scope="module")
def sound_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "sound"
    untrained_model(TINY, points=64, image_size=16).save(folder)
    return folder


def header(body: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(body) if length is None else length) + body


WEIGHTS: dict[str, bytes] = {
    "empty": b"",
    "short": b"\0\0\0",
    "pickle": b"\x80\x04\x95cposix\nsystem\n.",
    "zip": b"PK\x03\x04" + bytes(200),
    "long header": header(b"{}", 1 << 62),
    "header past the end": header(b"{}", 500),
    "header is no JSON": header(b"{{{{"),
    "header is a list": header(b"[]"),
    "deep header": header(b"[" * 100_000),
    "overlap": header(
        b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}'
    ) + bytes(12),
    "past the end": header(b'{"a":{"dtype":"F32","shape":[99],"data_offsets":[0,396]}}') + bytes(4),
    "overflow": header(b'{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}'),
    "negative": header(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}') + bytes(4),
    "unknown type": header(b'{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}') + bytes(4),
}  # fmt: skip

CARDS: dict[str, bytes] = {
    "empty": b"",
    "no JSON": b"k = 3",
    "not UTF-8": b'{"model": "\xff\xfe"}',
    "deep": b"[" * 200_000,
    "list": b"[]",
    "number": b"7",
    "null": b"null",
    "no network": b'{"model": {"points": 64, "image_size": 16, "comparable": true}}',
    "network is text": b'{"model": {"network": "x", "points": 64, "image_size": 16, "comparable": true}}',
    "endless": b'{"model": {"network": {}, "points": 1e999, "image_size": 16, "comparable": true}}',
    "not a number": b'{"model": {"network": {}, "points": NaN, "image_size": 16, "comparable": true}}',
    "many points": b'{"model": {"network": {}, "points": 99999999999, "image_size": 16, "comparable": true}}',
    "wide": b'{"model": {"network": {"point_width": 999999999}, "points": 64, "image_size": 16, "comparable": true}}',
    "no layers": b'{"model": {"network": {"edge_widths": []}, "points": 64, "image_size": 16, "comparable": true}}',
    "words": b'{"model": {"network": {"edge_widths": ["a"]}, "points": 64, "image_size": 16, "comparable": true}}',
    "negative k": b'{"model": {"network": {"k": -3}, "points": 64, "image_size": 16, "comparable": true}}',
    "true k": b'{"model": {"network": {"k": true}, "points": 64, "image_size": 16, "comparable": true}}',
    "unknown": b'{"model": {"network": {"__class__": 1}, "points": 64, "image_size": 16, "comparable": true}}',
}  # fmt: skip

RUNS: dict[str, bytes] = {
    "not UTF-8": b"\xff\xfe",
    "no TOML": b"{}{",
    "deep": b"a = " + b"[" * 100_000,
    "network is a number": b"network = 3",
    "training is a list": b"training = [1]",
    "unknown": b'[training]\nrun_this = "rm"\n',
    "text for a number": b'[training]\nepochs = "many"\n',
    "true for a number": b"[training]\nepochs = true\n",
    "date": b"[training]\nepochs = 2026-01-01\n",
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_of_strangers_give_a_reason(name: str, sound_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "card.json").write_bytes((sound_run / "card.json").read_bytes())
    (run / "model.safetensors").write_bytes(WEIGHTS[name])
    with pytest.raises(CrosshapeError, match=r"model\.safetensors(' | cannot be read| lacks the weights)"):
        load_model(run, "cpu")


@pytest.mark.parametrize("name", CARDS)
def test_cards_of_strangers_give_a_reason(name: str, sound_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "card.json").write_bytes(CARDS[name])
    (run / "model.safetensors").write_bytes((sound_run / "model.safetensors").read_bytes())
    with pytest.raises(CrosshapeError, match=r"card\.json"):
        load_model(run, "cpu")


@pytest.mark.parametrize("name", RUNS)
def test_settings_of_strangers_give_a_reason(name: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_bytes(RUNS[name])
    with pytest.raises(CrosshapeError, match=r"run\.toml"):
        read_settings(tmp_path)


def audited_run(run: Path) -> tuple[str, list[str], float]:
    """Why the run is refused, what was opened or called meanwhile, and the processor time; runs in a child."""
    global hooked
    if not hooked:
        load_model(run.parent / "sound", "cpu")  # its imports open files too
        with contextlib.suppress(CrosshapeError):
            load_model(run.parent / "broken", "cpu")
        sys.addaudithook(note)
        hooked = True
    opened.clear()
    start = time.process_time()
    try:
        if (run / "run.toml").exists():
            read_settings(run)
        else:
            load_model(run, "cpu")
        reason = ""
    except CrosshapeError as error:
        reason = str(error)
    return reason, list(opened), time.process_time() - start


def test_runs_of_strangers_open_nothing_else_and_take_no_time(sound_run: Path, tmp_path: Path) -> None:
    shutil.copytree(sound_run, tmp_path / "sound")
    shutil.copytree(sound_run, tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"")
    runs = []
    for name, kind in ((n, k) for k in (WEIGHTS, CARDS, RUNS) for n in k):
        runs.append(tmp_path / f"{len(runs)} {name}")
        if kind is RUNS:
            runs[-1].mkdir()
        else:
            shutil.copytree(sound_run, runs[-1])
        file = {id(WEIGHTS): "model.safetensors", id(CARDS): "card.json", id(RUNS): "run.toml"}[id(kind)]
        (runs[-1] / file).write_bytes(kind[name])
    wrong = []
    with Guard(1, Limits(memory=4 << 30, seconds=60.0)) as guard:
        for run, answer in guard.map(audited_run, runs):
            if isinstance(answer, UnreadableShape):
                wrong.append(f"{run.name} ended its child: {answer.reason}")
                continue
            reason, touched, seconds = answer
            outside = [name for name in touched if not name.startswith(os.path.realpath(run) + os.sep)]
            if not reason or outside or seconds > 5:
                wrong.append(f"{run.name}: {reason!r}, {seconds:.1f} s, touched {outside}")
    assert not wrong, f"{len(wrong)} of {len(runs)}:\n" + "\n".join(wrong)
    assert len(runs) == len(WEIGHTS) + len(CARDS) + len(RUNS)


def test_a_sound_run_still_loads(sound_run: Path) -> None:
    assert json.loads((sound_run / "card.json").read_text())["model"]["points"] == 64
    assert load_model(sound_run, "cpu").point_count == 64


class Evil:
    def __reduce__(self):
        return (open, ("ran-code", "w"))


def checkpoints() -> dict[str, tuple[bytes, str]]:
    """Name -> (content of a .pth, what the reason holds)."""

    def saved(content: Any, **options: Any) -> bytes:
        stream = io.BytesIO()
        torch.save(content, stream, **options)
        return stream.getvalue()

    sound = saved({"a.weight": torch.arange(1000.0)})
    code = "could run code; it was not opened"
    return {
        "code": (saved({"state_dict": Evil()}), code),
        "old form with code": (saved({"w": Evil()}, _use_new_zipfile_serialization=False), code),
        "a pickle": (pickle.dumps(Evil()), code),
        "os.system": (b"cos\nsystem\n(S'true'\ntR.", code),
        "text": (b"not a checkpoint", "is no checkpoint"),
        "empty": (b"", "is not a torch checkpoint"),
        "cut": (sound[: len(sound) // 2], "is not a torch checkpoint"),
        "a list": (saved([1, 2]), "holds no named tensors"),
        "an archive of something else": (packed([("a/b.txt", b"x")]), "is not a torch checkpoint"),
    }


def audited_file(path: Path) -> tuple[str, list[str], float]:
    """Why an archive or a checkpoint is refused, what was opened or called, the processor time; in a child."""
    global hooked
    if not hooked:
        for name in (
            "sound.zip",
            "broken.zip",
            "sound.pth",
            "broken.pth",
            "old.pth",
        ):  # their imports open files too
            with contextlib.suppress(CrosshapeError):
                take(path.parent.parent / "warm" / name)
        sys.addaudithook(note)
        hooked = True
    os.chdir(path.parent)  # a folder is emptied by names relative to it
    opened.clear()
    start = time.process_time()
    try:
        take(path)
        reason = ""
    except CrosshapeError as error:
        reason = str(error)
    return reason, list(opened), time.process_time() - start


def take(path: Path) -> None:
    if path.suffix == ".zip":
        unpack(path, path.parent)
    else:
        convert(path, path.with_suffix(".safetensors"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_archives_and_checkpoints_open_nothing_else_and_take_no_time(tmp_path: Path) -> None:
    cases = {f"{i}.zip": (packed(members), text) for i, (members, text) in enumerate(ARCHIVES.values())}
    cases["cut.zip"] = (packed([("a.off", b"OFF" * 999)])[:-40], "is no whole zip")
    cases["text.zip"] = (b"PK, not quite", "is no whole zip")
    cases |= {f"{name}.pth": case for name, case in checkpoints().items()}
    warm = tmp_path / "warm"
    warm.mkdir()
    (warm / "sound.zip").write_bytes(packed([("good/shape.off", b"OFF")]))
    torch.save({"x": torch.zeros(2)}, warm / "sound.pth")
    torch.save({"x": Evil()}, warm / "broken.pth")
    (warm / "broken.zip").write_bytes(b"PK")
    (warm / "old.pth").write_bytes(pickle.dumps(Evil()))
    paths = [tmp_path / "inside" / name for name in cases]
    paths[0].parent.mkdir()
    for path in paths:
        path.write_bytes(cases[path.name][0])
    inside, wrong = f"{os.path.realpath(paths[0].parent)}{os.sep}", []
    with Guard(1, Limits(memory=4 << 30, seconds=60.0)) as guard:
        for path, answer in guard.map(audited_file, paths):
            if isinstance(answer, UnreadableShape):
                wrong.append(f"{path.name} ended its child: {answer.reason}")
                continue
            reason, touched, seconds = answer
            # what was unpacked is removed by bare names within an open folder: os.remove ('name', descriptor)
            own = re.compile(rf"{re.escape(inside)}|^os\.remove \('[^/']+', \d+\)$")
            outside = [entry for entry in touched if not own.search(entry)]
            if cases[path.name][1] not in reason or outside or seconds > 5:
                wrong.append(f"{path.name}: {reason!r}, {seconds:.1f} s, touched {outside}")
    assert not wrong, f"{len(wrong)} of {len(cases)}:\n" + "\n".join(wrong)
    assert sorted(path.name for path in paths[0].parent.iterdir()) == sorted(cases), "nothing new lies there"
