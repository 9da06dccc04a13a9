"""The page's server: what it answers, and every line of what it promises about security."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import shutil
import stat
import threading
import time
import types
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlencode

import numpy as np
import pytest
import trimesh
from conftest import learn_parts
from starlette.testclient import TestClient

from crosshape.cli import main
from crosshape.errors import CrosshapeError
from crosshape.library.library import open_library
from crosshape.library.notes import marks_file, tags_file
from crosshape.page import layout
from crosshape.page.catalogue import Filters, Kept, Snapshot, folded, natural, shape_id
from crosshape.page.gate import Bucket, Gate, GateSettings, is_loopback
from crosshape.page.glb import write_glb
from crosshape.page.jobs import Worker
from crosshape.page.metrics import Metrics
from crosshape.page.problems import Problem
from crosshape.page.review import Review, content_key
from crosshape.page.server import create_app, page_files
from crosshape.page.service import Map, Service, Upload
from crosshape.page.tagging import Tagging
from crosshape.page.together import Together, scored
from crosshape.search import index, query
from crosshape.search.query import Sought, Where, fused, search
from crosshape.search.tags import Learned, Proposal, write_tags
from crosshape.shapes.files import load_shape
from crosshape.shapes.made import make_shape, write_shape
from crosshape.sheets import plain_words, safe_cell

TOKEN = "0123456789abcdef0123"


@pytest.fixture(scope="module")
def copied(embedded_library, tmp_path_factory) -> Path:
    """A copy of the embedded library that may be written beside."""
    path = tmp_path_factory.mktemp("served") / "parts.lance"
    shutil.copytree(embedded_library.path, path)
    return path


@pytest.fixture(scope="module")
def service(copied: Path):
    made = Service(copied, places=2)
    yield made
    made.close()


@pytest.fixture(scope="module")
def client(service: Service) -> TestClient:
    return client_of(service)


def client_of(service: Service, **settings) -> TestClient:
    app = create_app(service, GateSettings(**settings))
    return TestClient(app, base_url="http://127.0.0.1:8765", raise_server_exceptions=False)


def problem_of(response, status: int, kind: str) -> str:
    """The detail of an answer that must be a problem as RFC 9457 wants it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["type"] == f"urn:crosshape:problem:{kind}" and body["status"] == status
    assert body["title"] and body["detail"] and body["instance"].startswith("/")
    return body["detail"]


# The library


def test_shapes_are_listed_in_pages_with_filters_and_orders(client, embedded_library):
    page = client.get("/shapes", params={"limit": 5, "offset": 10}).json()
    assert page["total"] == 12 and page["offset"] == 10
    assert [one["name"] for one in page["shapes"]] == embedded_library.names[10:]
    chairs = client.get("/shapes", params={"folder": "chair"}).json()
    assert chairs["total"] == 3 and all(one["name"].startswith("chair/") for one in chairs["shapes"])
    assert client.get("/shapes", params={"q": "MUG .stl"}).json()["total"] == 1
    assert client.get("/shapes", params={"format": "stl,off"}).json()["total"] == 8
    most = client.get("/shapes", params={"sort": "-faces"}).json()["shapes"]
    assert [one["faces"] for one in most] == sorted((one["faces"] for one in most), reverse=True)
    limit = most[3]["faces"]
    some = client.get("/shapes", params={"min_faces": limit}).json()
    assert some["total"] == sum(one["faces"] >= limit for one in most)
    sizes = [one["size"] for one in most]
    assert client.get("/shapes", params={"max_size": 0.99 * min(sizes)}).json()["total"] == 0


def test_every_bound_and_every_order_is_what_it_says(client, embedded_library):
    facts = embedded_library.facts().to_pylist()
    values = {
        "faces": [row["faces"] for row in facts],
        "size": [max(row["extents"]) for row in facts],
        "bytes": [row["bytes"] for row in facts],
        "changed": [row["modified"] for row in facts],
    }
    for what in ("faces", "size"):
        bound = sorted(values[what])[5]
        for side, keeps in (("min", np.greater_equal), ("max", np.less_equal)):
            found = client.get("/shapes", params={f"{side}_{what}": bound}).json()["shapes"]
            expected = [
                row["name"] for row, value in zip(facts, values[what], strict=True) if keeps(value, bound)
            ]
            assert [one["name"] for one in found] == expected and 0 < len(expected) < 12
    for what, numbers in values.items():
        for sign in (1, -1):
            found = client.get("/shapes", params={"sort": what if sign == 1 else f"-{what}"}).json()["shapes"]
            order = np.argsort(sign * np.array(numbers), kind="stable")
            assert [one["name"] for one in found] == [facts[row]["name"] for row in order]


def test_an_id_is_made_of_the_name_alone(client, embedded_library):
    name = embedded_library.names[0]
    facts = client.get(f"/shapes/{shape_id(name)}").json()
    assert facts["name"] == name and re.fullmatch("[0-9a-f]{20}", facts["id"])
    assert facts["path"].endswith(name) and facts["embedded"] and facts["views"] == 4


def test_a_view_is_the_stored_png_and_is_kept_for_ever_under_its_content(client, embedded_library):
    name = embedded_library.names[3]
    line = client.get(f"/shapes/{shape_id(name)}").json()
    address = f"/shapes/{line['id']}/views/2.png"
    plain = client.get(address)
    assert plain.content == embedded_library.view_png(name, 2)
    assert plain.headers["content-type"] == "image/png" and "no-cache" in plain.headers["cache-control"]
    kept = client.get(address, params={"v": line["picture"]})
    assert "immutable" in kept.headers["cache-control"]
    again = client.get(address, headers={"If-None-Match": plain.headers["etag"]})
    assert again.status_code == 304 and not again.content
    problem_of(client.get(f"/shapes/{line['id']}/views/4.png"), 404, "no-such-view")


def test_pictures_and_meshes_of_the_same_files_are_others_where_another_way_is_up(service, monkeypatch):
    """The files are the same when a library is made anew with --up y."""
    now, library = service.now(), open_library(service.catalogue.path)
    library.settings = replace(library.settings, up="y")
    library.view_png = lambda name, view: b"turned"
    turned = Snapshot(library)
    assert len(set(now.pictures + turned.pictures)) == 24 and content_key(now) == content_key(turned)
    monkeypatch.setattr(service, "pictures", Kept(1 << 20))
    monkeypatch.setattr(service, "scenes", Kept(1 << 20))
    monkeypatch.setattr(service, "model", lambda _: SimpleNamespace(fingerprint="f"))
    monkeypatch.setattr(service.mesh_guard, "call", lambda *given: given[2].encode())
    monkeypatch.setattr(
        service.upload_guard, "call", lambda *given: SimpleNamespace(is_cloud=True, up=given[2])
    )
    monkeypatch.setattr(service.segmenter, "paint", lambda model, shape, *_: shape.up.encode())
    assert service.picture(now, 0, 0) != service.picture(turned, 0, 0) == b"turned"
    assert (service.scene(now, 0), service.scene(turned, 0)) == (b"auto", b"y")
    assert (service.parts(now, 0, None), service.parts(turned, 0, None)) == (b"auto", b"y")


def test_a_view_of_other_content_is_not_kept_for_ever(client, embedded_library):
    address = f"/shapes/{shape_id(embedded_library.names[3])}/views/2.png"
    control = client.get(address, params={"v": "0" * 12}).headers["cache-control"]
    assert "immutable" not in control and "no-cache" in control


def test_a_mesh_is_the_file_turned_as_gltf_wants_it(client, embedded_library, tmp_path):
    name = embedded_library.names[0]
    answer = client.get(f"/shapes/{shape_id(name)}/mesh.glb")
    assert answer.headers["content-type"] == "model/gltf-binary"
    path = tmp_path / "mesh.glb"
    path.write_bytes(answer.content)
    there, facts = load_shape(path), client.get(f"/shapes/{shape_id(name)}").json()
    assert len(there.faces) == facts["faces"]
    assert there.area == pytest.approx(facts["area"], rel=1e-5)
    np.testing.assert_allclose(np.ptp(there.vertices, axis=0), facts["extents"], rtol=1e-5)
    again = client.get(
        f"/shapes/{shape_id(name)}/mesh.glb", headers={"If-None-Match": answer.headers["etag"]}
    )
    assert again.status_code == 304


def test_glb_is_exact_far_from_the_origin_and_carries_clouds_and_colours(tmp_path):
    made = make_shape("bolt", 1)
    away = np.array([1e6, -2e6, 3e6])
    path = tmp_path / "far.glb"
    path.write_bytes(write_glb(made.vertices + away, made.faces, centre=away))
    np.testing.assert_allclose(load_shape(path).vertices.mean(0) - away, made.vertices.mean(0), atol=0.3)
    local = np.frombuffer(path.read_bytes()[-4 * 3 * 8 :], np.uint8)
    assert len(local)
    path.write_bytes(
        write_glb(
            made.vertices, None, normals=made.vertices, colours=np.zeros((len(made.vertices), 3), np.uint8)
        )
    )
    assert load_shape(path).is_cloud


@pytest.fixture
def own(tmp_path, embedded_library):
    """A library whose files are our own to change, not embedded, and its service."""
    from crosshape.library.adding import add

    (tmp_path / "shapes").mkdir()
    for number in range(3):
        write_shape(make_shape("mug", number), tmp_path / "shapes" / f"mug_{number}.stl")
    library = add(tmp_path / "shapes", tmp_path / "own.lance", settings=embedded_library.settings, workers=1)
    made = Service(library.path)
    yield made
    made.close()


@pytest.mark.slow
def test_where_a_file_is_gone_or_changed_the_stored_points_are_shown_and_why(own, tmp_path):
    client = client_of(own)
    (tmp_path / "shapes" / "mug_0.stl").unlink()
    write_shape(make_shape("bolt", 5), tmp_path / "shapes" / "mug_1.stl")
    for name, reason in (
        ("mug_0.stl", "its file is not where it was"),
        ("mug_1.stl", "has changed since it was added"),
    ):
        answer = client.get(f"/shapes/{shape_id(name)}/mesh.glb")
        length = int.from_bytes(answer.content[12:16], "little")
        told = json.loads(answer.content[20 : 20 + length])
        assert told["asset"]["extras"]["shown"] == "points" and reason in told["asset"]["extras"]["reason"]
        path = tmp_path / "points.glb"
        path.write_bytes(answer.content)
        cloud = load_shape(path)
        assert cloud.is_cloud and len(cloud.vertices) == 256
        extents = client.get(f"/shapes/{shape_id(name)}").json()["extents"]
        np.testing.assert_allclose(np.ptp(cloud.vertices, axis=0), extents, rtol=0.2)
    words = problem_of(client.get("/search", params={"name": "mug_2.stl"}), 409, "not-embedded")
    assert "crosshape embed" in words
    assert "crosshape embed" in client.get("/library").json()["why_not"]


def test_a_library_that_grows_or_goes_is_seen_by_a_running_server(own, tmp_path, monkeypatch):
    monkeypatch.setattr("crosshape.page.catalogue.LOOK", 0.0)
    client = client_of(own)
    before = client.get("/shapes").json()
    library = open_library(own.catalogue.path)
    library.remove(["mug_0.stl"])
    after = client.get("/shapes").json()
    assert (before["total"], after["total"]) == (3, 2) and after["version"] > before["version"]
    problem_of(client.get(f"/shapes/{shape_id('mug_0.stl')}"), 404, "no-such-shape")
    away = own.catalogue.path.rename(tmp_path / "away.lance")
    for address in ("/shapes", "/healthz", "/library"):
        words = problem_of(client.get(address), 503, "library-gone")
        assert "there is no library" in words
    assert client.get("/").status_code == 200, "the page itself still comes, and says what is wrong"
    away.rename(own.catalogue.path)
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/shapes").json()["total"] == 2


# Searching


def test_search_by_name_or_id_is_the_library_s_own_search(client, embedded_library):
    name = embedded_library.names[5]
    answer = client.get("/search", params={"name": name, "top": 4}).json()
    hits = search(embedded_library, name, top=4)
    assert [(hit["name"], hit["score"], hit["rank"]) for hit in answer["hits"]] == [
        (hit.name, hit.score, hit.rank) for hit in hits
    ]
    by_id = client.get("/search", params={"id": shape_id(name), "top": 4}).json()
    assert by_id["hits"] == answer["hits"] and answer["query"]["name"] == name
    points = client.get("/search", params={"name": name, "top": 3, "over": "points"}).json()
    assert [hit["name"] for hit in points["hits"]] == [
        h.name for h in search(embedded_library, name, top=3, over="points")
    ]
    mugs = client.get("/search", params={"name": name, "folder": "mug"}).json()["hits"]
    assert mugs and all(hit["name"].startswith("mug/") for hit in mugs)
    problem_of(client.get("/search", params={"name": "none.obj"}), 404, "no-such-shape")
    problem_of(client.get("/search"), 400, "bad-request")


def test_an_upload_finds_itself_and_leaves_nothing(client, service, made_folder, embedded_library):
    path = made_folder / "chair" / "chair_1.stl"
    seen: list[list[str]] = []
    look = service.look

    def watched(where: Path, filename: str):
        mode = stat.S_IMODE(os.stat(where.parent.parent).st_mode), stat.S_IMODE(os.stat(where.parent).st_mode)
        seen.append([where.name, filename, *map(oct, mode)])
        assert where.read_bytes() == path.read_bytes() and os.listdir(where.parent) == [where.name]
        return look(where, filename)

    service.look = watched
    try:
        files = {"file": ("../../etc/chair <b>.STL", path.read_bytes())}
        answer = client.post("/search", files=files, params={"top": 3})
    finally:
        service.look = look
    body = answer.json()
    assert answer.status_code == 200, body
    assert body["hits"][0]["name"] == "chair/chair_1.stl" and body["hits"][0]["score"] > 0.9999
    name, filename, outer, inner = seen[0]
    assert re.fullmatch(r"[0-9a-f]{16}\.stl", name) and "chair" not in name and outer == inner == "0o700"
    assert os.listdir(service.folder) == [], "deleted after the answer"
    again = client.get(f"/search/{body['token']}", params={"top": 2, "over": "views"}).json()
    assert again["hits"][0]["name"] == "chair/chair_1.stl" and len(again["hits"]) == 2
    picture = client.get(body["query"]["pictures"][0])
    assert picture.headers["content-type"] == "image/png" and picture.content[:4] == b"\x89PNG"
    problem_of(client.get("/search/nothing"), 404, "search-forgotten")


def test_a_picture_finds_the_shape_it_shows(client, embedded_library):
    name = "mug/mug_0.obj"
    files = {"file": ("photo.png", embedded_library.view_png(name, 1))}
    body = client.post("/search", files=files).json()
    assert body["query"]["kind"] == "picture" and len(body["hits"]) == 12
    assert body["over"] == "views", "a picture has no points"
    again = client.get(f"/search/{body['token']}", params={"over": "points"})
    assert "A picture has no points" in problem_of(again, 400, "no-points")


def test_several_together_are_the_command_s_own_search(
    client, service, embedded_library, made_folder, tmp_path, capsys
):
    """Two files, a picture and a name: every hit and score as `crosshape search` prints them."""
    name = "table/table_1.stl"
    files = [made_folder / "bolt" / "bolt_1.stl", made_folder / "mug" / "mug_0.obj", tmp_path / "photo.png"]
    files[2].write_bytes(embedded_library.view_png("chair/chair_2.off", 1))
    for over in ("both", "views"):
        words = ["search", str(embedded_library.path), name, *map(str, files), "--top", "11", "--over", over]
        assert main([*words, "--json"]) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        sent = [("file", (path.name, path.read_bytes())) for path in files]
        answer = client.post("/search", params={"top": 11, "over": over}, data={"name": name}, files=sent)
        body = answer.json()
        assert answer.status_code == 200, body
        assert [hit["name"] for hit in body["hits"]] == [row["name"] for row in rows] and len(rows) == 11
        np.testing.assert_allclose(
            [hit["score"] for hit in body["hits"]], [row["score"] for row in rows], atol=2e-6
        )
        assert body["usual"] is None and body["over"] == over
    asked = body["query"]["queries"]
    assert body["query"]["kind"] == "several" and body["token"] is None
    assert [(one["kind"], one["name"].rsplit("/", 1)[-1]) for one in asked] == [
        ("library", "table_1.stl"), ("shape", "bolt_1.stl"), ("shape", "mug_0.obj"), ("picture", "photo.png")
    ]  # fmt: skip
    tokens = [("token", one["token"]) for one in asked[1:]]
    again = client.get(
        "/search", params=[("id", shape_id(name)), *tokens, ("top", 11), ("over", "views")]
    ).json()
    assert again["hits"] == body["hits"] and again["query"] == body["query"]
    assert os.listdir(service.folder) == [], "all are deleted after the answer"


def test_several_names_are_asked_at_once_and_not_too_many(client, embedded_library):
    names = embedded_library.names[2:5]
    mixed = [("name", names[0]), ("id", shape_id(names[1])), ("name", names[2])]
    body = client.get(f"/search?{urlencode([*mixed, ('top', 20)])}").json()
    hits = search(embedded_library, names, top=20)
    assert [hit["name"] for hit in body["hits"]] == [hit.name for hit in hits] and len(hits) == 9
    assert [one["name"] for one in body["query"]["queries"]] == names, "in the order of the address"
    many = client.get("/search", params=[("name", names[0])] * 9)
    assert problem_of(many, 400, "too-many-queries") == "9 queries at once; 8 are the most."
    problem_of(client.get("/search", params=[mixed[0], ("id", "0" * 20)]), 404, "no-such-shape")
    problem_of(client.get("/search", params=[mixed[0], ("token", "gone")]), 404, "search-forgotten")
    sent = [("file", (f"{i}.stl", b"x")) for i in range(9)]
    problem_of(client.post("/search", files=sent), 400, "bad-form")
    full = client.post("/search", files=sent[:5], data={"name": names + names[:1]})
    problem_of(full, 400, "too-many-queries")


def test_one_file_of_several_that_cannot_be_read_is_said_and_nothing_stays(client, service, made_folder):
    good = ("a.obj", (made_folder / "mug" / "mug_0.obj").read_bytes())
    answer = client.post("/search", files=[("file", good), ("file", ("b.stl", b"solid x\nendsolid"))])
    problem_of(answer, 422, "unreadable")
    problem_of(
        client.post("/search", files=[("file", good), ("file", ("b.exe", b"MZ"))]), 415, "unknown-format"
    )
    assert os.listdir(service.folder) == [] and service.uploads.taken == 0


def test_what_cannot_be_read_is_a_problem_with_its_reason_and_leaves_nothing(client, service):
    def send(name: str, content: bytes):
        return client.post("/search", files={"file": (name, content)})

    assert "gives no shape: " in problem_of(send("x.stl", b"solid nothing\nendsolid"), 422, "unreadable")
    assert "gives no picture: " in problem_of(send("x.png", b"no picture"), 422, "unreadable")
    assert "'.exe' files are neither" in problem_of(send("x.exe", b"MZ"), 415, "unknown-format")
    problem_of(send("noname", b"x"), 415, "unknown-format")
    problem_of(client.post("/search", data={"file": "text"}), 415, "no-form")
    problem_of(client.post("/search", files={"other": ("x.stl", b"x")}), 400, "no-file")
    broken = client.post(
        "/search", content=b"--x\r\nnonsense", headers={"Content-Type": "multipart/form-data; boundary=x"}
    )
    assert broken.status_code == 400
    assert os.listdir(service.folder) == []


def test_an_upload_cannot_read_its_neighbours(client, service):
    """A glTF that names another file, and one that climbs out: nothing but the file itself is ever read.

    What lies there is a triangle, so that reading it would be an answer.
    """
    (service.folder / "secret.bin").write_bytes(np.eye(3, dtype="<f4").tobytes())
    for uri in ("../secret.bin", "secret.bin", "/etc/passwd", "file:///etc/passwd", "http://127.0.0.1/x.bin"):
        document = {
            "asset": {"version": "2.0"},
            "buffers": [{"uri": uri, "byteLength": 36}],
            "bufferViews": [{"buffer": 0, "byteLength": 36}],
            "accessors": [{"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"}],
            "meshes": [{"primitives": [{"attributes": {"POSITION": 0}}]}],
            "nodes": [{"mesh": 0}],
            "scenes": [{"nodes": [0]}],
        }
        answer = client.post("/search", files={"file": ("x.gltf", json.dumps(document).encode())})
        told = problem_of(answer, 422, "unreadable")
        assert any(words in told for words in ("its folder", "nothing is fetched", "No such file")), told
    (service.folder / "secret.bin").unlink()


def test_searches_answered_together_are_those_answered_alone(service, random):
    shapes = service.now().gallery()
    asked = [Sought(shapes.points[row], shapes.views[row]) for row in range(7)]
    for over in ("points", "views", "both"):
        alone = [fused(shapes.points, shapes.views, one, over) for one in asked]
        np.testing.assert_allclose(scored(shapes, asked, over), alone, atol=2e-6)
    together, answers = Together(), {}
    threads = [
        threading.Thread(
            target=lambda i=i: answers.update({i: together.scores(shapes, asked[i % 7], "both")})
        )
        for i in range(40)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    together.close()
    for i, found in answers.items():
        assert int(found.argmax()) == i % 7 and found.shape == (12,)
    assert len(answers) == 40


def test_a_filter_that_leaves_out_what_is_like_it_does_not_make_nothing_like_it(service, monkeypatch):
    now = service.now()
    what = [service.named(now, 0)]
    best = service.like(now, what, 1, "both", Filters()).hits[0].score
    narrow = min(
        (Filters(folder=folder) for folder, _ in now.folders),
        key=lambda where: service.like(now, what, 1, "both", where).hits[0].score,
    )
    left = service.like(now, what, 1, "both", narrow).hits[0].score
    assert left < best
    for low, said in (((left + best) / 2, False), (best + 0.1, True)):
        monkeypatch.setattr(query, "usual_scores", lambda *_, low=low: query.Usual(np.full(30, low)))
        answer = service.like(now, what, 3, "both", narrow)
        assert answer.nothing_like_this is said and len(answer.hits) == 3
    assert service.like(now, what, 3, "both", Filters()).nothing_like_this


def test_searches_answered_together_are_scored_in_blocks(service, monkeypatch):
    monkeypatch.setattr("crosshape.page.together.BLOCK", 5)
    shapes = service.now().gallery()
    asked = [Sought(shapes.points[row], shapes.views[row]) for row in (0, 7)]
    alone = [fused(shapes.points, shapes.views, one, "both") for one in asked]
    np.testing.assert_allclose(scored(shapes, asked, "both"), alone, atol=2e-6)


@pytest.fixture
def large(tmp_path, monkeypatch, random):
    """600 shapes with made features, more than are compared one by one; and what exact search answers."""
    from test_library import fill

    from crosshape.library.library import create_library
    from crosshape.settings import PrepareSettings

    library = create_library(tmp_path / "big.lance", PrepareSettings(points=8, views=2, image_size=8))
    fill(library, [f"{'ab'[i % 2]}/{i:04d}.obj" for i in range(600)])
    middle = random.normal(size=(20, 512))
    near = middle[random.integers(0, 20, 600)] + random.normal(scale=0.4, size=(600, 512))
    near = near.astype(np.float32)
    library.write_features("aaaa1111", library.names, near, np.stack([near, near[::-1]], axis=1))
    asked = ["a/0010.obj", "b/0003.obj", "a/0200.obj"]
    exact = {
        "one": search(library, asked[0], top=8),
        "several": search(library, asked, top=8),
        "points": search(library, asked, top=8, over="points"),
        "folder": search(library, asked[0], top=8, where=Where(folder="b")),
    }
    monkeypatch.setattr(query, "EXACT", 100)
    monkeypatch.setattr("crosshape.page.catalogue.LOOK", 0.0)
    service = Service(library.path)
    yield service, asked, exact
    service.close()


def test_a_large_library_is_asked_for_every_filter(service):
    filters = Filters("", "mug", "stl,off", 10, 2000, 0.5, 3.0)
    assert service.where(service.now(), filters) == Where(0.5, 3.0, 10, 2000, ("stl", "off"), "mug")


def test_a_large_library_is_searched_by_its_index_which_is_made_meanwhile(large):
    service, asked, exact = large
    client = client_of(service)
    first = client.get("/search", params={"name": asked[0], "top": 8})
    words = problem_of(first, 503, "index-being-made")
    assert "over 600 shapes is being made" in words and first.headers["retry-after"] == "20"
    assert client.get("/shapes").json()["total"] == 600, "the page is there meanwhile"
    deadline = time.monotonic() + 120
    while (found := client.get("/search", params={"name": asked[0], "top": 8})).status_code == 503:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    answers = {
        "one": found.json(),
        "several": client.get("/search", params={"name": asked, "top": 8}).json(),
        "points": client.get("/search", params={"name": asked, "top": 8, "over": "points"}).json(),
        "folder": client.get("/search", params={"name": asked[0], "top": 8, "folder": "b"}).json(),
    }
    for kind, body in answers.items():
        assert [hit["name"] for hit in body["hits"]] == [hit.name for hit in exact[kind]], kind
        np.testing.assert_allclose(
            [h["score"] for h in body["hits"]], [h.score for h in exact[kind]], atol=2e-6
        )
        how = "measured without filters" if kind == "folder" else "measured"
        said = rf"Found by index over 600 shapes; recall of the first ten {how}: ([\d.]+)\."
        note = re.fullmatch(said, body["note"])
        assert note and float(note[1]) >= index.RECALL and body["usual"] is None
    words = client.get("/search", params={"name": asked[0], "q": "0003"})
    assert "Words in the name cannot be asked for" in problem_of(words, 400, "cannot-filter")


def test_tags_narrow_a_large_library_as_people_said(large):
    service, asked, exact = large
    write_tags(service.now().library, {hit.name: ["lid"] for hit in exact["one"][:4]})
    client = client_of(service)
    client.put("/tags", json={"id": shape_id(exact["one"][0].name), "tag": "lid", "said": "refuse"})
    client.put("/tags", json={"id": shape_id(exact["one"][1].name), "tag": "bolt", "said": "give"})
    client.put("/tags", json={"id": shape_id(exact["one"][7].name), "tag": "lid", "said": "give"})
    deadline = time.monotonic() + 120
    while (found := client.get("/search", params={"name": asked[0], "tag": "lid"})).status_code == 503:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert [hit["name"] for hit in found.json()["hits"]] == [exact["one"][i].name for i in (2, 3, 7)]
    words = problem_of(client.get("/map"), 409, "too-many-shapes")
    assert words == "The map is drawn for up to 100 shapes."
    deadline = time.monotonic() + 60
    while (state := client.get("/tags").json())["working"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "The page learns from tags for up to 100 shapes" in state["why_not"]
    none = client.get("/search", params={"name": asked[0], "tag": "none"}).json()
    assert none["hits"] == [] and none["note"] == "No shape with features has these facts."


# The worker and its queue


def test_a_full_queue_is_said_at_once_and_the_page_stays_quick(client, service, made_folder):
    content = (made_folder / "mug" / "mug_0.obj").read_bytes()
    stop, look, answers = threading.Event(), service.look, []
    service.look = lambda *_: (stop.wait(20), look(*_))[1]
    try:
        send = [
            threading.Thread(
                target=lambda: answers.append(client.post("/search", files={"file": ("a.obj", content)}))
            )
            for _ in range(2)
        ]
        for thread in send:
            thread.start()
        while service.uploads.taken < 2:
            time.sleep(0.01)
        full = client.post("/search", files={"file": ("a.obj", content)})
        assert "2 are being worked on or wait" in problem_of(full, 503, "queue-full")
        assert full.headers["retry-after"] == "3"
        assert "crosshape_uploads_queue 2" in client.get("/metrics").text
        begun = time.perf_counter()
        for _ in range(10):
            assert client.get("/shapes").status_code == 200
        assert time.perf_counter() - begun < 5
    finally:
        stop.set()
        service.look = look
    for thread in send:
        thread.join()
    assert [answer.status_code for answer in answers] == [200, 200]
    assert service.uploads.taken == 0


def test_a_worker_gives_back_its_places_whatever_happens():
    worker = Worker("test", 1)
    with pytest.raises(ZeroDivisionError), worker.place() as submit:
        submit(lambda: 1 / 0).result(5)
    with worker.place() as submit:
        assert submit(lambda: 7).result(5) == 7
        with pytest.raises(Problem), worker.place():
            pass
    assert worker.taken == 0
    worker.close()
    with pytest.raises(Problem), worker.place():
        pass


# Who may ask


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("127.0.0.1:8765", True), ("localhost", True), ("LOCALHOST:99", True), ("[::1]:8765", True),
        ("evil.example", False), ("127.0.0.1.evil.example", False), ("localhost.evil.example:8765", False),
        ("192.168.1.4", False), ("user@localhost", False), ("", False), ("localhost/x", False), ("[::1", False),
    ],
)  # fmt: skip
def test_the_host_header_must_name_this_machine(client, host, known):
    answer = client.get("/shapes", headers={"Host": host})
    assert answer.status_code == (200 if known else 421)
    if not known:
        problem_of(answer, 421, "unknown-host")


def test_elsewhere_addresses_are_known_and_names_only_if_given(service):
    open_to_all = client_of(service, host="0.0.0.0", token=TOKEN, names=("shapes.example",))
    inside = {"Authorization": f"Bearer {TOKEN}"}
    for host, status in (("192.168.1.4:8765", 200), ("shapes.example", 200), ("evil.example", 421)):
        assert open_to_all.get("/shapes", headers={"Host": host, **inside}).status_code == status


def test_other_sites_may_neither_read_nor_write(client):
    for headers in (
        {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:9999"}, {"Origin": "http://[x"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    ):  # fmt: skip
        problem_of(client.get("/shapes", headers=headers), 403, "other-site")
        problem_of(client.post("/duplicates", headers=headers), 403, "other-site")
    form = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/", headers=form).status_code == 200, "a link from elsewhere may open the page"
    problem_of(client.post("/duplicates", headers=form), 403, "other-site")
    own = {"Origin": "http://127.0.0.1:8765", "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert client.get("/shapes", headers=own).status_code == 200


def test_there_is_no_cors(client):
    for method in ("GET", "OPTIONS", "POST"):
        for origin in ("http://127.0.0.1:8765", "http://evil.example"):
            headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            answer = client.request(method, "/shapes", headers=headers)
            assert not [name for name in answer.headers if name.startswith("access-control")]


def test_with_a_token_nobody_gets_in_without_it(service):
    client = client_of(service, token=TOKEN)
    words = problem_of(client.get("/shapes"), 401, "token-needed")
    assert TOKEN not in words and client.get("/shapes").headers["www-authenticate"] == "Bearer"
    for address in ("/", "/static/app.js", "/openapi.json", "/metrics", "/map", "/nothing"):
        assert client.get(address).status_code == 401
    assert client.get("/healthz").status_code == 200
    assert client.get("/shapes", headers={"Authorization": "Bearer wrong-wrong-wrong"}).status_code == 401
    assert client.get("/shapes", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200
    opened = client.get("/shapes", params={"token": TOKEN, "limit": "2"}, follow_redirects=False)
    assert opened.status_code == 303 and opened.headers["location"] == "/shapes?limit=2"
    cookie = opened.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and TOKEN not in cookie
    assert client.get("/shapes").status_code == 200, "the cookie is kept"
    elsewhere = client_of(service, token=TOKEN).get(
        "//evil.example/", params={"token": TOKEN}, follow_redirects=False
    )
    assert not elsewhere.headers.get("location", "/").startswith("//")


def test_a_token_cannot_be_guessed_quickly(service):
    client = client_of(service, token=TOKEN)
    codes = [
        client.get("/shapes", headers={"Authorization": f"Bearer guess{i}"}).status_code for i in range(14)
    ]
    assert codes[:10] == [401] * 10 and codes[-1] == 429
    assert client.get("/shapes", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 429
    assert client.get(f"/shapes?token={TOKEN}", follow_redirects=False).status_code == 429
    inside = client_of(service, token=TOKEN)
    assert inside.get(f"/?token={TOKEN}", follow_redirects=False).status_code == 303
    assert inside.get("/shapes").status_code == 200
    again = inside.get(f"/shape/%C3%A4?token={TOKEN}&over=views", follow_redirects=False)
    assert (again.status_code, again.headers["location"]) == (303, "/shape/%C3%A4?over=views")
    outside = inside.get(f"/%5C%5Cevil.example?token={TOKEN}", follow_redirects=False)
    assert outside.headers["location"] == "/evil.example"


def test_servers_on_other_ports_do_not_log_each_other_out(service):
    """Browsers send the cookies of a host to all its ports."""
    mine = client_of(service, token=TOKEN)
    mine.cookies.set("crosshape-8766", 'of another server {"a": "b"}')
    assert mine.get(f"/?token={TOKEN}", follow_redirects=False).status_code == 303
    assert set(mine.cookies) == {"crosshape-8765", "crosshape-8766"}
    assert mine.get("/shapes").status_code == 200
    late = client_of(service, token=TOKEN)
    for _ in range(14):
        assert late.get("/shapes", headers={"Cookie": "crosshape-8765=old; crosshape=old"}).status_code == 401
    assert late.get(f"/?token={TOKEN}", follow_redirects=False).status_code == 303, (
        "old cookies are no guesses"
    )
    plain = client_of(service, token=TOKEN, names=("shapes.example",))
    opened = plain.get(f"/?token={TOKEN}", headers={"Host": "shapes.example"}, follow_redirects=False)
    assert opened.headers["set-cookie"].startswith("crosshape=")


def test_methods_that_are_none_are_counted_as_one(service):
    client = client_of(service)
    for number in range(5):
        client.request(f"ZZZ{number}", "/shapes", headers={"Host": "evil.example"})
    text = client.get("/metrics").text
    assert "ZZZ" not in text and 'method="other"' in text


def test_what_other_sites_send_uses_up_nothing_of_the_users_own(service):
    client = client_of(service, per_second=1.0, burst=3)
    foreign = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}
    for _ in range(20):
        problem_of(client.get("/shapes", headers={"Host": "evil.example"}), 421, "unknown-host")
        problem_of(client.get("/shapes", headers=foreign), 403, "other-site")
    assert client.get("/shapes").status_code == 200


def test_an_upload_is_not_compared_with_features_of_another_model(embedded_library, made_folder, tmp_path):
    import shutil

    from crosshape.library.embedding import embed
    from crosshape.networks.model import load_model, untrained_model

    shutil.copytree(embedded_library.path, tmp_path / "parts.lance")
    service = Service(tmp_path / "parts.lance", str(embedded_library.path.parent / "run"))
    try:
        client = client_of(service)
        file = {"file": ("a.obj", (made_folder / "mug" / "mug_0.obj").read_bytes())}
        token = client.post("/search", files=file).json()["query"]["token"]
        assert client.get(f"/search/{token}").status_code == 200
        library = open_library(tmp_path / "parts.lance")
        other = untrained_model(
            load_model(embedded_library.path.parent / "run", "cpu").settings,
            points=128,
            image_size=32,
            seed=9,
        )
        other.save(tmp_path / "other")
        embed(tmp_path / "other", library)
        service.catalogue._looked = -1e9
        problem_of(client.get(f"/search/{token}"), 404, "search-forgotten")
    finally:
        service.close()


def test_a_map_of_too_many_shapes_is_refused_each_time(service, monkeypatch):
    monkeypatch.setattr(query, "EXACT", 5)
    client = client_of(service)
    service.map._key = ""
    for _ in range(3):
        problem_of(client.get("/map"), 409, "too-many-shapes")


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.4", "::", "shapes.example"])
def test_serve_refuses_other_addresses_without_a_token(host, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("CROSSHAPE_TOKEN", raising=False)
    assert main(["serve", str(tmp_path / "parts.lance"), "--host", host]) == 2
    assert f"--host {host} lets other machines in, and there is no token." in capsys.readouterr().err
    assert main(["serve", str(tmp_path / "parts.lance"), "--host", host, "--token", "short"]) == 2
    assert "the token must be 16 or more plain characters" in capsys.readouterr().err


def test_serve_without_a_library_or_port_says_what_to_do(tmp_path, capsys):
    assert main(["serve", str(tmp_path / "none.lance"), "--port", "0"]) == 1
    assert "there is no library" in capsys.readouterr().err
    from crosshape.commands.serve import listen

    taken = listen("127.0.0.1", 0)
    taken.listen()
    try:
        assert taken.getsockname()[0] == "127.0.0.1"
        assert main(["serve", str(tmp_path), "--port", str(taken.getsockname()[1])]) == 1
        assert "is taken. Choose another: --port 0" in capsys.readouterr().err
    finally:
        taken.close()
    assert main(["serve", str(tmp_path), "--port", "99999"]) == 2


def test_loopback_is_what_only_this_machine_reaches():
    assert all(map(is_loopback, ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "")))


# How much


def test_requests_beyond_the_rate_are_told_to_wait(service):
    client = client_of(service, per_second=0.001, burst=3)
    assert [client.get("/healthz").status_code for _ in range(4)] == [200, 200, 200, 429]
    last = client.get("/healthz")
    assert (
        "Too many requests" in problem_of(last, 429, "too-many-requests")
        and int(last.headers["retry-after"]) > 1
    )


def test_uploads_have_a_rate_of_their_own(service):
    client = client_of(service, uploads_per_minute=0.1, upload_burst=2)
    codes = [client.post("/search", data={"a": "b"}).status_code for _ in range(3)]
    assert codes == [415, 415, 429] and client.get("/healthz").status_code == 200


def test_a_bucket_refills_and_forgets_who_has_gone():
    now = [0.0]
    bucket = Bucket(2.0, 2, clock=lambda: now[0])
    assert [bucket.take("a") for _ in range(2)] == [0, 0] and bucket.take("a") == pytest.approx(0.5)
    now[0] = 0.5
    assert bucket.take("a") == 0 and bucket.take("a") > 0 and bucket.take("b") == 0
    for number in range(9000):
        now[0] += 1.0
        bucket.take(str(number))
    assert len(bucket._left) <= 4097


def test_who_had_to_wait_may_come_again():
    now = [0.0]
    bucket = Bucket(0.5, 1, clock=lambda: now[0])
    assert bucket.wait("a") == 0 and bucket.take("a") == 0
    assert bucket.wait("a") == pytest.approx(2) and bucket.take("a") == pytest.approx(2)
    now[0] = 1.5
    assert bucket.wait("a") == pytest.approx(0.5)
    now[0] = 2.5
    assert bucket.wait("a") == bucket.wait("a") == 0 == bucket.take("a")


def test_no_more_is_kept_than_there_is_room_for():
    kept = Kept(400)
    for number in range(4):
        kept.put(number, bytes(100))
    assert kept.get(0) == bytes(100)
    kept.put(4, bytes(100))
    assert [kept.get(number) is not None for number in range(5)] == [True, False, True, True, True]
    assert kept.size == 400
    kept.put(2, bytes(50))
    kept.put(5, bytes(101))
    assert kept.size == 350 and kept.get(2) == bytes(50) and kept.get(5) is None


def test_the_oldest_upload_is_forgotten_first(service, monkeypatch):
    monkeypatch.setattr("crosshape.page.service.REMEMBERED", 2)
    tokens = [service.remember(Upload(name, "shape", Sought(None, None), ())) for name in "abc"]
    assert [service.recall(token).name for token in tokens[1:]] == ["b", "c"]
    with pytest.raises(Problem, match="not remembered any more"):
        service.recall(tokens[0])


def test_more_requests_at_once_than_allowed_are_refused():
    async def slow(scope, receive, send):
        await asyncio.sleep(0.2)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask(gate) -> int:
        status = []
        scope = {
            "type": "http",
            "method": "GET",
            "path": "/",
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
        }

        async def send(message):
            status.extend([message["status"]] if "status" in message else [])

        await gate(scope, None, send)
        return status[0]

    async def all_at_once():
        gate = Gate(slow, GateSettings(at_once=3), Metrics())
        return await asyncio.gather(*(ask(gate) for _ in range(5)))

    assert sorted(asyncio.run(all_at_once())) == [200, 200, 200, 503, 503]


def test_a_body_is_limited_by_what_it_says_and_by_what_comes(service):
    client = client_of(service, max_upload=1000)
    large = client.post("/search", files={"file": ("a.stl", bytes(2000))})
    assert problem_of(large, 413, "too-large") == "The limit is 1000 bytes."

    def pieces():
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.stl"\r\n\r\n'
        for _ in range(100):
            yield bytes(100)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    problem_of(client.post("/search", content=pieces(), headers=headers), 413, "too-large")
    assert os.listdir(service.folder) == [] and service.uploads.taken == 0
    small = client.put(
        "/duplicates/marks", content=bytes(70_000), headers={"Content-Type": "application/json"}
    )
    problem_of(small, 413, "too-large")
    wrong = client.post("/search", content=b"x", headers={"Content-Length": "-5"})
    assert wrong.status_code == 400


UPLOADED = {
    "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": "/search",
    "raw_path": b"/search", "root_path": "", "scheme": "http", "query_string": b"", "client": ("1.1.1.1", 1),
    "server": ("127.0.0.1", 8765),
    "headers": [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=x")],
}  # fmt: skip


def test_a_body_that_does_not_come_is_given_up(service):
    app = create_app(service, GateSettings(body_seconds=0.2))
    sent = []

    async def ask():
        async def receive():
            await asyncio.sleep(30)

        async def send(message):
            sent.append(message)

        await asyncio.wait_for(app(UPLOADED, receive, send), 10)

    asyncio.run(ask())
    assert sent[0]["status"] == 408 and service.uploads.taken == 0


def test_who_goes_away_while_sending_is_no_fault_of_the_server(service):
    app = create_app(service)
    sent = []
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.stl"\r\n\r\nsolid'
    come = [{"type": "http.request", "body": part, "more_body": True}, {"type": "http.disconnect"}]

    async def receive():
        return come.pop(0)

    async def send(message):
        sent.append(message)

    asyncio.run(asyncio.wait_for(app(UPLOADED, receive, send), 10))
    assert sent[0]["status"] == 499 and service.uploads.taken == 0 and os.listdir(service.folder) == []


def test_words_of_a_form_that_no_answer_can_hold_are_replaced(client, service):
    headers = {"Content-Type": "multipart/form-data; charset=utf-7; boundary=x"}

    def form(name: bytes, more: bytes = b"") -> bytes:
        head = b'Content-Disposition: form-data; name="file"; filename="' + name + b'"\r\n\r\n'
        return b"--x\r\n" + head + b"solid\r\n" + more + b"--x--\r\n"

    answer = client.post("/search", content=form(b"a.+2AA-"), headers=headers)
    assert "'.?' files are neither" in problem_of(answer, 415, "unknown-format")
    named = b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\n+2AA-\r\n'
    answer = client.post("/search", content=form(b"a.stl", named), headers=headers)
    assert "named '?'" in problem_of(answer, 404, "no-such-shape")
    assert os.listdir(service.folder) == []


# What every answer carries


def test_every_answer_has_the_headers_that_fence_the_page_in(client, embedded_library):
    one = shape_id(embedded_library.names[0])
    for address in ("/", f"/shape/{one}", "/static/app.js", "/shapes", f"/shapes/{one}/views/0.png", "/nothing",
                    "/healthz", "/metrics", "/openapi.json", "/favicon.ico"):  # fmt: skip
        headers = client.get(address, follow_redirects=False).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "http" not in policy and "*" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cross-origin-resource-policy"] == "same-origin" and "server" not in headers
    assert "content-security-policy" in client.get("/shapes", headers={"Host": "evil.example"}).headers


def test_the_page_asks_no_other_machine_and_has_nothing_inline():
    pages = page_files()
    assert {"index.html", "app.js", "style.css", "viewer.js"} <= set(pages)
    for name, (content, kind, _) in pages.items():
        text = content.decode().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", text), name
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text
        ), name
        if kind.startswith("text/html"):
            assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son[a-z]+=", text)
    assert sum(len(content) for content, _, _ in pages.values()) < 200_000


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py", "/static/%2e%2e/server.py", "/static/..%2fserver.py", "/static//etc/passwd",
        "/static/%2fetc%2fpasswd", "/static/index.html%00.js", "/static/", "/shapes/..%2f..%2fetc%2fpasswd",
        "/shapes/%2fetc%2fpasswd/mesh.glb", "/shapes/../../x/views/0.png", "/search/..%2f..%2fx/0.png",
    ],
)  # fmt: skip
def test_no_path_of_a_client_is_opened(client, path):
    answer = client.get(path)
    assert answer.status_code == 404 and "root:" not in answer.text and "import " not in answer.text


def test_errors_are_problems_and_tell_nothing_of_the_server(client, service, capfd):
    problem_of(client.get("/nothing"), 404, "not-found")
    page = client.get("/nothing", headers={"Accept": "text/html,*/*;q=0.8"})
    assert page.status_code == 404 and "There is no such page" in page.text and 'href="/"' in page.text
    problem_of(client.put("/shapes"), 405, "method-not-allowed")
    assert "limit" in problem_of(client.get("/shapes", params={"limit": "many"}), 422, "invalid")
    problem_of(client.get("/shapes", params={"sort": "random"}), 422, "invalid")
    problem_of(client.get("/shapes", params={"q": "x" * 300}), 422, "invalid")
    now, service.now = service.now, lambda: 1 / 0
    try:
        words = problem_of(client.get("/shapes"), 500, "internal-error")
    finally:
        service.now = now
    assert "division" not in words and "Traceback" not in words


def test_head_tells_what_get_would_without_its_body(service, embedded_library):
    client = client_of(service)
    one = shape_id(embedded_library.names[0])
    for address in ("/", "/shapes", "/static/app.js", f"/shapes/{one}/views/0.png", "/nothing", "/healthz"):
        full, head = client.get(address), client.head(address)
        assert head.status_code == full.status_code and not head.content and full.content
        for name in ("content-length", "content-type", "etag", "content-security-policy"):
            assert head.headers.get(name) == full.headers.get(name)
    assert client.head("/shapes", headers={"Host": "evil.example"}).status_code == 421
    assert 'method="HEAD",route="/shapes",status="200"} 1' in client.get("/metrics").text
    locked = client_of(service, token=TOKEN)
    assert locked.head("/shapes").status_code == 401
    assert locked.head(f"/shapes?token={TOKEN}", follow_redirects=False).status_code == 303


def test_names_are_data_in_json_and_harmless_in_tables():
    for text in ("=1+1", "+1", "-1", "@sum", " =x", "\t=x"):
        assert str(safe_cell(text)).startswith("'")
    assert safe_cell("chair/a.stl") == "chair/a.stl" and plain_words("a\nb\x1b") == "a b "


# The API's description, and the numbers


def test_the_api_is_described_and_answers_are_as_described(client):
    described = client.get("/openapi.json").json()
    for path in ("/shapes", "/shapes/{id}", "/shapes/{id}/views/{view}.png", "/shapes/{id}/mesh.glb", "/search",
                 "/map", "/duplicates", "/healthz", "/metrics", "/library"):  # fmt: skip
        for operation in described["paths"][path].values():
            assert operation["summary"] and operation["description"].strip(), path
    assert "multipart/form-data" in described["paths"]["/search"]["post"]["requestBody"]["content"]
    page = described["components"]["schemas"]["ShapePage"]["properties"]
    assert set(client.get("/shapes").json()) == set(page)


def test_metrics_are_what_prometheus_reads(client):
    client.get("/shapes")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    for line in answer.text.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) .+|[a-z_]+(\{([a-z]+="[^"]*",?)+\})? [-+0-9.e]+', line), line
    assert re.search(
        r'crosshape_requests_total\{method="GET",route="/shapes",status="200"\} \d+', answer.text
    )
    counts = re.findall(r'request_seconds_bucket\{route="/shapes",le="[^"]+"\} (\d+)', answer.text)
    assert counts == sorted(counts, key=int) and len(counts) == 12
    assert "crosshape_shapes 12" in answer.text
    metrics = Metrics()
    metrics.count("GET", 'a"b\nc', 200, 0.1)
    assert 'route="a\\"b\\nc"' in metrics.text()
    metrics.gauge("crosshape_bytes", "Bytes.", lambda: 12_345_678)
    metrics.gauge("crosshape_share", "A share.", lambda: 0.5)
    assert metrics.text().endswith("crosshape_share 0.5\n") and "crosshape_bytes 12345678\n" in metrics.text()


# The map


def test_the_map_is_there_at_once_and_final_later(client, service, embedded_library):
    first = client.get("/map").json()
    assert len(first["ids"]) == len(first["x"]) == len(first["label"]) == 12
    assert sorted(first["labels"]) == ["bolt", "chair", "mug", "table"]
    deadline = time.monotonic() + 100
    while not (last := client.get("/map").json())["final"]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    for axis in ("x", "y"):
        assert min(last[axis]) >= 0 and max(last[axis]) <= 10_000
    assert service.map.file.name == "parts.lance.map.json" and service.map.file.exists()
    fresh = Service(service.catalogue.path)
    try:
        kept = client_of(fresh).get("/map").json()
        assert kept["final"] and kept["x"] == last["x"], "kept beside the library for the next server"
    finally:
        fresh.close()


def test_a_map_of_other_shapes_or_features_is_not_taken(tmp_path):
    places = np.array([[0.0, 1.0], [0.5, 0.25], [1.0, 0.0]], np.float32)
    layout.write_map(tmp_path / "map.json", "one", places)
    assert np.array_equal(layout.read_map(tmp_path / "map.json", "one", 3), places)
    assert layout.read_map(tmp_path / "map.json", "two", 3) is None
    assert layout.read_map(tmp_path / "map.json", "one", 4) is None


def test_other_features_make_another_map(service, monkeypatch):
    chart, now = Map(service), service.now()
    maps = iter([np.full((len(now), 2), number, np.float32) for number in range(3)])
    monkeypatch.setattr(Worker, "soon", lambda *_: None)
    monkeypatch.setattr(layout, "read_map", lambda *_: None)
    monkeypatch.setattr(layout, "flat", lambda _: next(maps))
    assert chart.places(now)[0].max() == chart.places(now)[0].max() == 0
    monkeypatch.setattr(service, "fingerprint", lambda _: "0badcafe")
    assert chart.places(now)[0].min() == 1
    monkeypatch.setattr(
        now, "pictures", ["0" * 12, *now.pictures[1:]]
    )  # a file was changed and embedded again
    assert chart.places(now)[0].min() == 2
    chart.close()


def test_a_layout_keeps_neighbours_together_also_of_those_that_are_no_landmarks(monkeypatch, random):
    monkeypatch.setattr(layout, "LANDMARKS", 60)
    middles = random.normal(size=(4, 30)) * 6
    group = np.arange(200) % 4
    features = middles[group] + random.normal(size=(200, 30))
    vectors = layout.components(features[:, :20].astype(np.float32), features[:, 20:].astype(np.float32))
    places = layout.spread(vectors)
    assert places.shape == (200, 2) and places.min() >= 0 and places.max() <= 1
    away = np.linalg.norm(places[:, None] - places[None], axis=2) + np.eye(200) * 9
    assert (group[away.argmin(axis=1)] == group).mean() > 0.95
    assert np.array_equal(places, layout.spread(vectors)), "seeded"
    for count in (1, 2, 4):
        assert layout.spread(vectors[:count]).shape == layout.flat(vectors[:count]).shape == (count, 2)


# Parts


@pytest.fixture(scope="module")
def head(embedded_library, tmp_path_factory) -> Path:
    """A head that knows the parts of chairs and mugs."""
    return learn_parts(embedded_library.path.parent / "run", tmp_path_factory.mktemp("head"))


@pytest.fixture(scope="module")
def segmenting(copied, head):
    """A service with a head."""
    made = Service(copied, head=str(head))
    made.check_head()
    yield made
    made.close()


def told_by(glb: bytes) -> tuple[dict, np.ndarray, np.ndarray]:
    """(extras, (F, 3, 3) corners of the faces, (F, 3, 3) their colours) of a GLB with one primitive."""
    length = int.from_bytes(glb[12:16], "little")
    document = json.loads(glb[20 : 20 + length])
    kinds = {5121: np.uint8, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}

    def array(number: int) -> np.ndarray:
        one = document["accessors"][number]
        start = 28 + length + document["bufferViews"][one["bufferView"]]["byteOffset"]
        width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[one["type"]]
        return np.frombuffer(glb, kinds[one["componentType"]], one["count"] * width, start).reshape(-1, width)

    primitive = document["meshes"][0]["primitives"][0]
    place, colour = (array(primitive["attributes"][key]) for key in ("POSITION", "COLOR_0"))
    faces = array(primitive["indices"]).reshape(-1, 3) if "indices" in primitive else np.empty((0, 3), int)
    return document["asset"]["extras"], place[faces], colour[faces][..., :3]


def test_parts_are_those_that_the_command_finds_in_their_colours(
    segmenting, head, embedded_library, made_folder
):
    from crosshape.networks.model import load_model
    from crosshape.tasks.heads import colours, load_head, segment_shape

    client, name = client_of(segmenting), "chair/chair_1.stl"
    model = load_model(embedded_library.path.parent / "run")
    expected = segment_shape(model, load_head(head, model), load_shape(made_folder / name))
    answer = client.get(f"/shapes/{shape_id(name)}/parts.glb")
    assert (
        answer.headers["content-type"] == "model/gltf-binary"
        and "no-cache" in answer.headers["cache-control"]
    )
    extras, corners, painted = told_by(answer.content)
    paint = colours(len(expected.names))
    assert (painted == paint[expected.numbers][:, None]).all() and len(np.unique(expected.numbers)) > 1
    plain = told_by_mesh(client, name)
    np.testing.assert_allclose(corners, plain, atol=1e-6)
    assert extras["class"] == expected.category and extras["told"] is True and extras["shown"] == "mesh"
    legend = client.get(f"/shapes/{shape_id(name)}/parts").json()
    assert legend["class"] == expected.category and legend["reason"] is None
    assert [part["name"] for part in legend["parts"]] == list(expected.names)
    for number, part in enumerate(legend["parts"]):
        assert part["colour"] == "#" + "".join(f"{one:02x}" for one in paint[number])
        mine = trimesh.Trimesh(*split(expected.shape, expected.numbers == number), process=False)
        assert part["share"] == pytest.approx(mine.area / expected.shape.area, abs=1e-4)
    again = client.get(
        f"/shapes/{shape_id(name)}/parts.glb", headers={"If-None-Match": answer.headers["etag"]}
    )
    assert again.status_code == 304


def split(shape, faces: np.ndarray) -> tuple:
    return shape.vertices, shape.faces[faces]


def told_by_mesh(client, name: str) -> np.ndarray:
    """(F, 3, 3): the faces of a shape's mesh.glb."""
    content = client.get(f"/shapes/{shape_id(name)}/mesh.glb").content
    (mesh,) = trimesh.load(io.BytesIO(content), file_type="glb", process=False).geometry.values()
    return mesh.vertices[mesh.faces]


def test_a_class_can_be_asked_for_and_parts_are_kept(segmenting, monkeypatch):
    client, one = client_of(segmenting), shape_id("mug/mug_2.off")
    assert client.get("/library").json()["parts"].keys() == {"chair", "mug"}
    asked = client.get(f"/shapes/{one}/parts", params={"class": "chair"}).json()
    assert asked["class"] == "chair" and asked["told"] is False
    assert {part["name"] for part in asked["parts"]} == set(client.get("/library").json()["parts"]["chair"])
    words = problem_of(client.get(f"/shapes/{one}/parts", params={"class": "boat"}), 422, "unknown-class")
    assert words == "The head knows no class 'boat'; it knows chair, mug."
    problem_of(client.get(f"/shapes/{one}/parts.glb", params={"class": "boat"}), 422, "unknown-class")
    problem_of(client.get("/shapes/00000000000000000000/parts.glb"), 404, "no-such-shape")
    monkeypatch.setattr(segmenting.segmenter, "paint", lambda *_: 1 / 0)
    assert client.get(f"/shapes/{one}/parts", params={"class": "chair"}).json() == asked
    assert client.get(f"/shapes/{shape_id('mug/mug_1.stl')}/parts").status_code == 500


def test_parts_that_are_kept_are_those_of_the_class_that_is_asked_for(segmenting):
    address = f"/shapes/{shape_id('table/table_0.obj')}/parts"
    told = client_of(segmenting).get(address).json()["class"]
    for label in ("chair", "mug", "chair"):
        assert client_of(segmenting).get(address, params={"class": label}).json()["class"] == label
    assert client_of(segmenting).get(address).json()["class"] == told


def test_parts_wait_in_the_queue_of_uploads_and_the_page_does_not(segmenting):
    client, stop, parts = client_of(segmenting), threading.Event(), segmenting.parts
    segmenting.parts = lambda *_: (stop.wait(20), parts(*_))[1]
    address, answers = f"/shapes/{shape_id('bolt/bolt_0.obj')}/parts", []
    many = [threading.Thread(target=lambda: answers.append(client.get(address))) for _ in range(8)]
    try:
        for thread in many:
            thread.start()
        while segmenting.uploads.taken < 8:
            time.sleep(0.01)
        problem_of(client.get(address), 503, "queue-full")
        assert client.get("/shapes").status_code == 200
        assert client.get(f"/shapes/{shape_id('bolt/bolt_0.obj')}/mesh.glb").status_code == 200
    finally:
        stop.set()
        segmenting.parts = parts
    for thread in many:
        thread.join()
    assert [answer.status_code for answer in answers] == [200] * 8 and segmenting.uploads.taken == 0


def test_without_a_head_the_page_offers_no_parts(client, embedded_library):
    assert client.get("/library").json()["parts"] == {}
    words = problem_of(client.get(f"/shapes/{shape_id(embedded_library.names[0])}/parts.glb"), 409, "no-head")
    assert "crosshape segment RUN --learn DATA --head HEAD" in words


@pytest.mark.slow
def test_the_parts_of_a_shape_whose_file_is_gone_are_those_of_its_points(embedded_library, head, tmp_path):
    from crosshape.library.adding import add
    from crosshape.library.embedding import embed

    write_shape(make_shape("mug", 3), tmp_path / "mug.stl")
    library = add(tmp_path / "mug.stl", tmp_path / "own.lance", settings=embedded_library.settings, workers=1)
    embed(embedded_library.path.parent / "run", library)
    (tmp_path / "mug.stl").unlink()
    service = Service(library.path, head=str(head))
    try:
        service.check_head()
        answer = client_of(service).get(f"/shapes/{shape_id('mug.stl')}/parts").json()
    finally:
        service.close()
    assert answer["shown"] == "points" and answer["reason"] == "its file is not where it was"
    assert sum(part["share"] for part in answer["parts"]) == pytest.approx(1, abs=1e-3)


def test_serve_refuses_a_model_that_is_none(copied, tmp_path, capsys):
    assert main(["serve", str(copied), "--port", "0", "--no-browser", "--model", str(tmp_path / "none")]) == 1
    assert str(tmp_path / "none") in capsys.readouterr().err


def test_serve_refuses_a_head_that_does_not_fit(copied, head, tmp_path, capsys):
    words = ["serve", str(copied), "--port", "0", "--no-browser", "--head"]
    assert main([*words, str(tmp_path / "none")]) == 1
    assert "holds no head (head.safetensors, head.json)" in capsys.readouterr().err
    shutil.copytree(head, tmp_path / "other")
    card = json.loads((head / "head.json").read_text())
    (tmp_path / "other" / "head.json").write_text(json.dumps({**card, "model": "0badcafe"}))
    assert main([*words, str(tmp_path / "other")]) == 1
    assert "was learned on model 0badcafe, this run is " in capsys.readouterr().err


# Duplicates


def found_by(*pairs):
    """A search for duplicates that finds these pairs of names."""
    from crosshape.search.duplicates import Group, Pair

    def find(library, workers=None, progress=None):
        bar = progress("aligning", 2)
        bar.advance(2)
        bar.close()
        return [Group(a, [Pair(a, b, kind)]) for a, b, kind in pairs]

    return find


def test_duplicates_are_marked_and_never_deleted(client, service, embedded_library, copied):
    a, b = embedded_library.names[:2]
    assert client.get("/duplicates").json()["state"] == "not-looked-for"
    service.review._find = found_by((a, b, "moved"))
    assert client.post("/duplicates").status_code == 202
    deadline = time.monotonic() + 30
    while (found := client.get("/duplicates").json())["state"] == "looking":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert found["state"] == "ready" and found["pairs"][0]["kind"] == "moved"
    assert found["pairs"][0]["a"]["name"] == a and found["pairs"][0]["mark"] is None
    ends = {"a": shape_id(a), "b": shape_id(b)}
    assert client.put("/duplicates/marks", json={**ends, "mark": "same"}).status_code == 204
    assert client.get("/duplicates").json()["pairs"][0]["mark"] == "same"
    kept = json.loads((copied.parent / "parts.lance.marks.json").read_bytes())["pairs"]
    assert [(one["a"], one["b"], one["mark"]) for one in kept] == [(a, b, "same")]
    table = client.get("/duplicates/table.csv")
    assert (
        table.text.splitlines()[1].startswith(f"{a},{b},moved,")
        and "attachment" in table.headers["content-disposition"]
    )
    turned = {"a": ends["b"], "b": ends["a"]}
    assert client.put("/duplicates/marks", json={**turned, "mark": "different"}).status_code == 204
    assert client.get("/duplicates").json()["pairs"][0]["mark"] == "different"
    path = copied.parent / "parts.lance.marks.json"
    kept = json.loads(path.read_bytes())["pairs"]
    assert [(one["a"], one["b"], one["mark"]) for one in kept] == [(a, b, "different")]
    path.write_text(json.dumps({"pairs": [{**kept[0], "a": b, "b": a, "mark": "unsure"}]}))
    assert client.get("/duplicates").json()["pairs"][0]["mark"] == "unsure", "kept by an earlier version"
    assert client.put("/duplicates/marks", json={**ends, "mark": None}).status_code == 204
    assert client.get("/duplicates").json()["pairs"][0]["mark"] is None
    alone = {"a": ends["a"], "b": ends["a"], "mark": "same"}
    problem_of(client.put("/duplicates/marks", json=alone), 422, "invalid")
    problem_of(client.put("/duplicates/marks", json={**ends, "mark": "delete"}), 422, "invalid")
    problem_of(
        client.put("/duplicates/marks", json={"a": "x", "b": "y", "mark": "same"}), 404, "no-such-shape"
    )
    assert client.get("/shapes").json()["total"] == 12
    fresh = Service(copied)
    try:
        assert client_of(fresh).get("/duplicates").json()["state"] == "ready", "kept for the next server"
    finally:
        fresh.close()


def test_pairs_that_were_found_in_other_content_are_old(service, copied):
    now = service.now()
    review = Review(copied.with_name("grown.lance"), found_by((now.names[0], now.names[1], "moved")))
    review.look(now)
    deadline = time.monotonic() + 10
    while review.state(now)["state"] == "looking":
        assert time.monotonic() < deadline
        time.sleep(0.01)
    contents = ["0" * 12, *now.contents[1:]]
    changed = types.SimpleNamespace(names=now.names, contents=contents, row=now.row, line=now.line)
    assert [review.state(one)["state"] for one in (now, changed)] == ["ready", "old"]
    assert len(review.state(changed)["pairs"]) == 1
    review.close()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (CrosshapeError("the disk is full."), "the disk is full."),
        (KeyError("x"), "Looking for duplicates failed (KeyError)."),
    ],
)
def test_why_duplicates_could_not_be_looked_for_is_said(service, copied, error, words):
    def find(*_, **__):
        raise error

    now, review = service.now(), Review(copied.with_name("failed.lance"), find)
    for _ in range(2):
        review.look(now)
        deadline = time.monotonic() + 10
        while (state := review.state(now))["state"] == "looking":
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert (state["state"], state["failed"]) == ("not-looked-for", words)
    review.close()


def test_names_are_found_without_accents_and_sorted_as_people_do():
    assert folded("M\u00f6bel") == folded("MO\u0308BEL") == "mobel"
    names = ["Bus 10.obj", "bus 9.obj", "Bus 09b.obj", "\u00c4pfel/1.stl", "car.obj", "a" + "7" * 5000]
    assert sorted(names, key=lambda name: natural(folded(name))) == [
        "a" + "7" * 5000,
        "\u00c4pfel/1.stl",
        "bus 9.obj",
        "Bus 09b.obj",
        "Bus 10.obj",
        "car.obj",
    ]


def test_kept_files_that_hold_something_else_are_told_or_left(client, service, tmp_path):
    path, now = tmp_path / "parts.lance", service.now()
    for pairs in ([{"a": "a", "b": "b"}], [1], [{"a": "a", "b": "b", "mark": 1}]):
        marks_file(path).write_text(json.dumps({"pairs": pairs}))
        with pytest.raises(Problem, match=r"parts.lance.marks.json cannot be read"):
            Review(path).marks()
    for pairs in ([1], [{"a": 1, "b": 2}], 3):
        path.with_name("parts.lance.pairs.json").write_text(json.dumps({"key": "k", "pairs": pairs}))
        assert Review(path).state(now)["state"] == "not-looked-for"
    tags_file(path).write_text(json.dumps({"labels": {"\ud800": "x"}, "refused": []}))
    assert not any(Tagging(path).shown(now))
    problem_of(client.post("/search", headers={"Content-Length": "9" * 5000}), 413, "too-large")


def test_marks_that_cannot_be_read_are_not_overwritten(client, copied, embedded_library):
    path = copied.parent / "parts.lance.marks.json"
    before = path.read_bytes() if path.exists() else None
    path.write_text("{broken")
    a, b = map(shape_id, embedded_library.names[:2])
    words = problem_of(
        client.put("/duplicates/marks", json={"a": a, "b": b, "mark": "same"}), 409, "broken-marks"
    )
    assert "not overwritten" in words and path.read_text() == "{broken"
    path.unlink() if before is None else path.write_bytes(before)


def test_pictures_of_uploads_are_png(service):
    from PIL import Image

    from crosshape.page.service import _png

    view = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(_png(view)))), view)


# Tags


def test_tags_are_given_proposed_refused_and_kept(client, service, copied):
    assert client.get("/tags").json()["given"] == []
    names = service.now().names
    for name in names:
        label = name.split("/")[0]
        if label in ("chair", "mug") and not name.endswith("_2.off"):
            body = {"id": shape_id(name), "tag": f" {label} ", "said": "give"}
            assert client.put("/tags", json=body).status_code == 204
    assert client.get(f"/shapes/{shape_id('mug/mug_0.obj')}").json()["tag"] == "mug"

    def settled() -> dict:
        deadline = time.monotonic() + 60
        while (state := client.get("/tags").json())["working"]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return state

    assert settled()["why_not"] == "no tag has 3 labelled shapes or more; label some more."
    for label in ("chair", "mug"):
        one = next(name for name in names if name.startswith(label) and name.endswith("_2.off"))
        client.put("/tags", json={"id": shape_id(one), "tag": label, "said": "give"})
    state = settled()
    assert (
        state["given"] == [{"tag": "chair", "count": 3}, {"tag": "mug", "count": 3}] and not state["why_not"]
    )
    assert [one["tag"] for one in state["learned"]] == ["chair", "mug"]
    assert all(one["shape"]["name"].split("/")[0] in ("bolt", "table") for one in state["proposals"])
    assert client.get("/tags/labels.csv").text.splitlines()[:2] == ["name,tag", "chair/chair_0.obj,chair"]
    kept = json.loads((copied.parent / "parts.lance.tags.json").read_bytes())
    assert kept["labels"]["mug/mug_0.obj"] == "mug"
    for body in (
        {"said": "give", "tag": ""},
        {"said": "give", "tag": "x" * 81},
        {"said": "delete", "tag": "x"},
    ):
        problem_of(client.put("/tags", json={"id": shape_id(names[0]), **body}), 422, "invalid")
    assert client.put("/tags", json={"id": shape_id("mug/mug_0.obj"), "said": "clear"}).status_code == 204
    assert client.get(f"/shapes/{shape_id('mug/mug_0.obj')}").json()["tag"] is None


def test_tags_of_the_library_are_shown_until_someone_says_otherwise(embedded_library, tmp_path, capsys):
    """What `tag --write` keeps is on the page; what is said on the page is what `tag` reads."""
    shutil.copytree(embedded_library.path, tmp_path / "parts.lance")
    library = open_library(tmp_path / "parts.lance")
    names = library.names
    chairs, mugs = ([name for name in names if name.startswith(label)] for label in ("chair", "mug"))
    write_tags(library, {name: ["chair"] for name in [*chairs[:2], mugs[0], mugs[1]]})
    service = Service(library.path)
    client = client_of(service)

    def tagged(tag: str) -> list[str]:
        return [one["name"] for one in client.get("/shapes", params={"tag": tag}).json()["shapes"]]

    def facts(name: str) -> tuple:
        told = client.get(f"/shapes/{shape_id(name)}").json()
        return told["tag"], told["written"]

    def said(name: str, tag: str, what: str) -> None:
        answer = client.put("/tags", json={"id": shape_id(name), "tag": tag, "said": what})
        assert answer.status_code == 204

    try:
        assert tagged("chair") == sorted([*chairs[:2], mugs[0], mugs[1]]) and facts(mugs[0]) == (
            None,
            ["chair"],
        )
        assert client.get("/library").json()["tags"] == [{"tag": "chair", "count": 4}]
        state = client.get("/tags").json()
        assert state["written"] == 4 and state["given"] == []
        assert {one["state"] for one in state["proposals"]} == {"in the library"}
        like = client.get("/search", params={"name": chairs[2], "tag": "chair"}).json()["hits"]
        assert {hit["name"] for hit in like} == {*chairs[:2], mugs[0], mugs[1]}
        said(mugs[0], "chair", "refuse")
        assert facts(mugs[0]) == (None, []) and mugs[0] not in tagged("chair")
        for name in chairs:
            said(name, "chair", "give")
        for name in mugs[1:]:
            said(name, "mug", "give")
        assert facts(chairs[0]) == ("chair", []) and facts(mugs[1]) == ("mug", [])
        assert tagged("chair") == chairs and tagged("mug") == mugs[1:]
        assert client.get("/tags").json()["written"] == 0
        said(mugs[0], "mug", "give")
        assert main(["tag", str(library.path), "--write", "--json"]) == 0
        rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        assert {row["name"] for row in rows} == set(names) - {*chairs, *mugs}
        ready = {row["name"]: [row["tag"]] for row in rows if row["state"] == "ready"}
        given = {name: [name.split("/")[0]] for name in (*chairs, *mugs)}
        assert open_library(library.path).tags() == given | ready
    finally:
        service.close()


def test_a_refused_tag_is_proposed_no_more(service, copied):
    now = service.now()
    one, other = now.names[0], now.names[1]

    def propose(library, labels, refused):
        return [Learned("t", 3, 0.9, 0.97, 0.5, 0.7)], [
            Proposal(one, "t", 0.95, "ready", 0.97),
            Proposal(other, "t", 0.1, "not enough evidence", None),
        ]

    tagging = Tagging(copied.with_name("other.lance"), propose)
    tagging.say(now.names[5], "t", "give")
    deadline = time.monotonic() + 10
    while tagging.state(now)["working"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert [(p["shape"]["name"], p["state"]) for p in tagging.state(now)["proposals"]] == [(one, "ready")]
    tagging.say(one, "t", "refuse")
    assert tagging.state(now)["proposals"] == []
    assert tagging.shown(now)[5] == ("t",) and tagging.tagged(now, "t").sum() == 1
    tagging.say(now.names[5], "t", "refuse")
    assert tagging.shown(now)[5] == (), "refused after it was given"
    tagging.file.write_text("{broken")
    with pytest.raises(Problem, match="not overwritten"):
        tagging.say(one, "t", "give")
    assert tagging.file.read_text() == "{broken"
    tagging.close()


def learned_of(tagging: Tagging, snapshot: Snapshot) -> dict:
    """What is told of tags once they are learned."""
    deadline = time.monotonic() + 10
    while (state := tagging.state(snapshot))["working"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return state


def test_the_next_best_tag_is_proposed_where_one_was_refused(service, tmp_path):
    """As crosshape tag does."""
    now = service.now()

    def propose(library, labels, refused):
        left = [tag for tag in ("a", "b") if (now.names[0], tag) not in refused]
        return [], [Proposal(now.names[0], tag, 0.9, "to review", 0.8) for tag in left[:1]]

    tagging = Tagging(tmp_path / "parts.lance", propose)
    tagging.say(now.names[1], "a", "give")
    tagging.say(now.names[2], "b", "give")
    for tag in ("a", "b"):
        assert [one["tag"] for one in learned_of(tagging, now)["proposals"]] == [tag]
        tagging.say(now.names[0], tag, "refuse")
    assert learned_of(tagging, now)["proposals"] == []
    tagging.close()


def test_proposals_of_a_tag_are_told_however_many_others_there_are(service, tmp_path, monkeypatch):
    monkeypatch.setattr("crosshape.page.tagging.SENT", 3)
    now = service.now()
    rest = [name for name in now.names if not name.startswith("chair/")]

    def propose(library, labels, refused):
        some = [Proposal(name, "a", 0.9, "ready", 0.97) for name in rest[:4]]
        return [], some + [Proposal(name, "b", 0.9, "to review", 0.8) for name in rest[4:]]

    tagging = Tagging(tmp_path / "parts.lance", propose)
    monkeypatch.setattr(service, "tagging", tagging)
    tagging.say("chair/chair_0.obj", "a", "give")
    told = learned_of(tagging, now)
    assert [one["tag"] for one in told["proposals"]] == ["a"] * 3 + ["b"] * 3
    assert told["proposed"] == [{"tag": "a", "count": 4}, {"tag": "b", "count": 5}]
    assert (told["ready"], told["total"], told["written"]) == (4, 9, 0)
    monkeypatch.setattr("crosshape.page.tagging.SENT", 1)
    of_b = client_of(service).get("/tags", params={"tag": "b"}).json()
    assert [one["shape"]["name"] for one in of_b["proposals"]] == rest[4:5]
    assert (of_b["ready"], of_b["total"]) == (0, 5) and of_b["proposed"] == told["proposed"]
    assert client_of(service).get("/tags", params={"tag": "none"}).json()["proposals"] == []
    tagging.close()


def test_a_fault_in_learning_from_tags_is_said_on_the_page_and_in_the_terminal(service, tmp_path, capfd):
    tagging = Tagging(tmp_path / "parts.lance", lambda library, labels, refused: 1 / 0)
    tagging.say(service.now().names[0], "a", "give")
    why_not = learned_of(tagging, service.now())["why_not"]
    assert why_not == "Learning from the tags failed (ZeroDivisionError)."
    assert "ZeroDivisionError: division by zero" in capfd.readouterr().err


def test_a_tag_that_is_given_is_refused_no_more(copied):
    from crosshape.page.tagging import Tagging

    tagging = Tagging(copied.with_name("said.lance"))
    for said in ("refuse", "give", "clear"):
        tagging.say("a.obj", "lid", said)
    assert tagging.kept() == ({}, set())
    tagging.say("a.obj", "lid", "give")
    tagging.say("a.obj", "bolt", "refuse")  # what it is not says nothing of what it is
    assert tagging.kept() == ({"a.obj": "lid"}, {("a.obj", "bolt")})
    tagging.close()


def test_a_library_embedded_in_part_says_so(embedded_library, made_folder, tmp_path):
    import shutil

    from crosshape.library.adding import add

    shutil.copytree(embedded_library.path, tmp_path / "parts.lance")
    add(made_folder / "mug" / "mug_0.obj", tmp_path / "parts.lance", prefix="more", workers=1)
    service = Service(tmp_path / "parts.lance", str(embedded_library.path.parent / "run"))
    try:
        client = client_of(service)
        about = client.get("/library").json()
        total = len(embedded_library)
        assert about["model"] and about["why_not"].startswith(f"1 of {total + 1} shapes are left out")
        answer = client.get("/search", params={"name": "mug/mug_1.stl", "top": 100}).json()
        assert len(answer["hits"]) == total - 1 and answer["left_out"] == 1 and "embed" in answer["note"]
        new = shape_id("more/mug_0.obj")
        assert client.get(f"/shapes/{new}").json()["embedded"] is False
        assert "has no features" in problem_of(client.get("/search", params={"id": new}), 409, "not-embedded")
        assert "when all shapes have features" in problem_of(client.get("/map"), 409, "not-embedded")
    finally:
        service.close()
