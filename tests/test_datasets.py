"""The list of data sets, downloads against a server on this machine, archives that must be refused."""

import http.server
import io
import json
import re
import stat
import threading
import zipfile

import pytest

from crosshape.cli import main
from crosshape.errors import CrosshapeError
from crosshape.shapes import datasets
from crosshape.shapes.datasets import KNOWN, Known, UnpackLimits, fetch, known, unpack


def packed(members):
    """The bytes of a zip with these (name or ZipInfo, bytes)."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


CONTENT = packed(
    [
        (f"Tiny/chair/train/chair_{i:04d}.off", bytes((i * 7 + j * j) % 251 for j in range(5000)))
        for i in range(9)
    ]
)


class Shop(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT with Range and ETag; misbehaves as `server.mood` says."""

    def do_GET(self):
        server = self.server
        server.asked.append(dict(self.headers))
        body, mood = server.body, server.mood
        if mood == "gone":
            return self.send_error(404)
        span = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        fresh = self.headers.get("If-Range", server.tag) == server.tag
        if span and fresh and mood != "no ranges":
            start = int(span[1]) + (mood == "another part")
            if start >= len(body):
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            start = 0
            self.send_response(200)
        self.send_header("Content-Length", str(len(body) - start))
        self.send_header("ETag", server.tag)
        self.end_headers()
        stop = start + server.burst if mood == "breaks" else len(body)
        self.wfile.write(body[start:stop])

    def log_message(self, *_):
        pass


@pytest.fixture
def shop():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    server.body, server.mood, server.tag, server.asked, server.burst = CONTENT, "", '"one"', [], 300
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    server.entry = Known(
        "tiny",
        "Tiny",
        "modelnet",
        1,
        "9",
        "http://home",
        "none",
        f"http://127.0.0.1:{server.server_port}/Tiny.zip",
    )
    yield server
    server.shutdown()
    server.server_close()


def unpacked(folder):
    with zipfile.ZipFile(io.BytesIO(CONTENT)) as archive:
        return all((folder / n).read_bytes() == archive.read(n) for n in archive.namelist())


def test_fetch_downloads_unpacks_and_leaves_no_litter(shop, tmp_path):
    seen = []
    assert fetch(shop.entry, tmp_path, lambda done, total: seen.append((done, total))) == [tmp_path / "Tiny"]
    assert unpacked(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Tiny", "Tiny.zip"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))


def test_a_download_that_keeps_breaking_off_continues_where_it_stopped(shop, tmp_path):
    shop.mood, shop.burst = "breaks", len(CONTENT) // 4 + 1
    fetch(shop.entry, tmp_path)
    assert unpacked(tmp_path)
    starts = [int(headers["Range"][6:-1]) for headers in shop.asked[1:]]
    assert starts == [shop.burst * i for i in (1, 2, 3)]
    assert all(headers["If-Range"] == '"one"' for headers in shop.asked[1:])


def test_a_download_given_up_is_kept_and_continued_by_the_next_command(shop, tmp_path):
    shop.mood, shop.burst = "breaks", 100
    with pytest.raises(
        CrosshapeError, match=r"broke off 3 times; 300 bytes are kept, run the same command again"
    ):
        fetch(shop.entry, tmp_path, attempts=3)
    shop.mood = ""
    fetch(shop.entry, tmp_path)
    assert shop.asked[-1]["Range"] == "bytes=300-"
    assert unpacked(tmp_path)


@pytest.mark.parametrize("change", ["no ranges", "another file", "shorter file"])
def test_what_cannot_be_continued_starts_over(shop, tmp_path, change):
    (tmp_path / "Tiny.zip.part").write_bytes(b"old" * (10 if change != "shorter file" else len(CONTENT)))
    (tmp_path / "Tiny.zip.part.etag").write_text('"one"')
    shop.mood = change
    shop.tag = '"two"' if change == "another file" else '"one"'
    fetch(shop.entry, tmp_path)
    assert unpacked(tmp_path)


def test_another_part_than_was_asked_for_is_not_taken(shop, tmp_path):
    (tmp_path / "Tiny.zip.part").write_bytes(CONTENT[:100])
    shop.mood = "another part"
    with pytest.raises(CrosshapeError, match="the server sends another part than was asked for"):
        fetch(shop.entry, tmp_path)
    assert (tmp_path / "Tiny.zip.part").read_bytes() == CONTENT[:100]


def test_known_files_with_another_checksum_are_damaged(tmp_path, monkeypatch):
    files = [tmp_path / place / name for place in ("good", "bad") for name in ("a.h5", "b.h5")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(file.parent.name.encode())
    monkeypatch.setattr(datasets, "MODELNET40_H5_MD5", {"a.h5": datasets.md5(files[0])})
    assert datasets.damaged(files) == [tmp_path / "bad" / "a.h5"]


def test_wrong_checksum_removes_the_download(shop, tmp_path):
    import dataclasses

    entry = dataclasses.replace(shop.entry, md5="0" * 32)
    with pytest.raises(CrosshapeError, match="does not have the known MD5; it was removed"):
        fetch(entry, tmp_path)
    assert list(tmp_path.iterdir()) == [] or not (tmp_path / "Tiny.zip.part").exists()
    good = dataclasses.replace(entry, md5=__import__("hashlib").md5(CONTENT).hexdigest())
    assert fetch(good, tmp_path) == [tmp_path / "Tiny"]


def test_server_errors_are_said(shop, tmp_path):
    shop.mood = "gone"
    with pytest.raises(CrosshapeError, match=r"the server answers 404"):
        fetch(shop.entry, tmp_path)
    shop.server_close()
    with pytest.raises(
        CrosshapeError, match=r"cannot be reached .*; 0 bytes are kept and the same command continues"
    ):
        fetch(shop.entry, tmp_path)


def link(name):
    member = zipfile.ZipInfo(name)
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    return member


HOSTILE = {
    "up and out": ([("a/../../evil.off", b"x")], "would be written outside the folder"),
    "absolute": ([("/etc/evil", b"x")], "would be written outside the folder"),
    "backslash": ([("..\\evil", b"x")], "would be written outside the folder"),
    "drive": ([("c:/evil", b"x")], "would be written outside the folder"),
    "control character": ([("a/\x1b[2J", b"x")], "would be written outside the folder"),
    "link": ([("ok", b"x"), (link("a"), b"/etc/passwd")], "is a link or a device"),
    "bomb": ([("a/zeros", b"\0" * (64 << 20))], "unpacks 67,108,864 bytes from"),
    "twice": ([("a/b", b"1"), ("a//b", b"2")], "holds a name twice"),
    "file as folder": ([("a", b"1"), ("a/b", b"2")], "holds a name twice"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archives_are_refused_whole(tmp_path, case):
    members, text = HOSTILE[case]
    archive = tmp_path / "inner" / "x.zip"
    archive.parent.mkdir()
    archive.write_bytes(packed([("good/shape.off", b"OFF"), *members]))
    with pytest.raises(CrosshapeError, match=re.escape(text)):
        unpack(archive, tmp_path / "inner")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["inner", "x.zip"]


def test_limits_and_damage(tmp_path):
    archive = tmp_path / "x.zip"
    archive.write_bytes(CONTENT)
    with pytest.raises(CrosshapeError, match="holds 9 members; the limit is 8"):
        unpack(archive, tmp_path, UnpackLimits(members=8))
    with pytest.raises(CrosshapeError, match="brings the whole to more than 40,000 bytes"):
        unpack(archive, tmp_path, UnpackLimits(bytes=40_000))
    broken = bytearray(CONTENT)
    broken[200] ^= 255
    archive.write_bytes(broken)
    with pytest.raises(CrosshapeError, match="is no whole zip"):
        unpack(archive, tmp_path)
    archive.write_bytes(CONTENT[:-40])
    with pytest.raises(CrosshapeError, match="is no whole zip"):
        unpack(archive, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["x.zip"]


def test_nothing_is_overwritten_and_rubbish_is_left_out(tmp_path):
    archive = tmp_path / "x.zip"
    archive.write_bytes(packed([("a/b.off", b"1"), ("__MACOSX/a/._b.off", b"2"), ("a/.DS_Store", b"3")]))
    assert unpack(archive, tmp_path) == [tmp_path / "a"]
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["b.off"]
    with pytest.raises(CrosshapeError, match="is there already; move it away to unpack x.zip"):
        unpack(archive, tmp_path)


def test_the_list_is_consistent():
    from crosshape.shapes.layouts import LAYOUTS

    assert len({e.name for e in KNOWN}) == len(KNOWN)
    for entry in KNOWN:
        assert entry.layout in LAYOUTS and entry.licence and entry.home.startswith("https://")
        assert entry.archive or entry.note
    assert len(datasets.MODELNET40) == 40 and list(datasets.MODELNET40) == sorted(datasets.MODELNET40)
    assert set(datasets.MODELNET10) < set(datasets.MODELNET40)
    assert sum(parts for _, parts in datasets.SHAPENET_PART.values()) == 50
    assert list(datasets.SHAPENET_PART.values()) == sorted(datasets.SHAPENET_PART.values())


def test_unknown_and_unfetchable_names():
    with pytest.raises(
        CrosshapeError, match=r"there is no data set 'modelnet44'; did you mean 'modelnet40'\?"
    ):
        known("modelnet44")
    with pytest.raises(
        CrosshapeError, match=r"scanobjectnn cannot be fetched by a program: fill in the form"
    ):
        fetch(known("scanobjectnn"), None)


def test_command_lists_and_fetches(shop, tmp_path, monkeypatch, capsys):
    assert main(["datasets"]) == 0
    table = capsys.readouterr().out
    assert all(entry.name in table and entry.home in table for entry in KNOWN)
    assert "none published" in table
    assert main(["datasets", "--json"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["name"] for line in lines] == [entry.name for entry in KNOWN]
    monkeypatch.setattr(datasets, "KNOWN", (shop.entry,))
    assert main(["datasets", "get", "tiny", str(tmp_path)]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "Tiny")
    assert main(["datasets", "get", "tiny", str(tmp_path)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert main(["datasets", "one", "two"]) == 2
