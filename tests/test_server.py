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
from pathlib import Path

import numpy as np
import pytest
from starlette.testclient import TestClient

from crosshape.cli import main
from crosshape.library.library import open_library
from crosshape.page import layout
from crosshape.page.catalogue import shape_id
from crosshape.page.gate import Bucket, Gate, GateSettings, is_loopback
from crosshape.page.glb import write_glb
from crosshape.page.jobs import Worker
from crosshape.page.metrics import Metrics
from crosshape.page.problems import Problem
from crosshape.page.review import harmless
from crosshape.page.server import create_app, page_files
from crosshape.page.service import Service
from crosshape.page.together import Together, scored
from crosshape.search.query import Sought, fused, search
from crosshape.shapes.files import load_shape
from crosshape.shapes.made import make_shape, write_shape

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
    assert "views" in body["over"] or body["hits"]


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
    """A glTF that names another file, and one that climbs out: nothing but the file itself is ever read."""
    (service.folder / "secret.bin").write_bytes(bytes(64))
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
        problem_of(answer, 422, "unreadable")
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
        {"Origin": "http://evil.example"}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:9999"},
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


def test_a_body_that_does_not_come_is_given_up(service):
    app = create_app(service, GateSettings(body_seconds=0.2))
    sent = []

    async def ask():
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": "/search",
            "raw_path": b"/search", "root_path": "", "scheme": "http", "query_string": b"", "client": ("1.1.1.1", 1),
            "server": ("127.0.0.1", 8765),
            "headers": [(b"host", b"localhost"), (b"content-type", b"multipart/form-data; boundary=x")],
        }  # fmt: skip

        async def receive():
            await asyncio.sleep(30)

        async def send(message):
            sent.append(message)

        await asyncio.wait_for(app(scope, receive, send), 10)

    asyncio.run(ask())
    assert sent[0]["status"] == 408 and service.uploads.taken == 0


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


def test_names_are_data_in_json_and_harmless_in_tables():
    for text in ("=1+1", "+1", "-1", "@sum", " =x", "\t=x"):
        assert harmless(text).startswith("'")
    assert harmless("chair/a.stl") == "chair/a.stl" and harmless("a\nb\x1b") == "a b "


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
    assert client.put("/duplicates/marks", json={**ends, "mark": None}).status_code == 204
    assert client.get("/duplicates").json()["pairs"][0]["mark"] is None
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


def test_a_refused_tag_is_proposed_no_more(service, copied):
    from crosshape.page.tagging import Tagging
    from crosshape.search.tags import Learned, Proposal

    now = service.now()
    one, other = now.names[0], now.names[1]

    def propose(library, labels):
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
    tagging.file.write_text("{broken")
    with pytest.raises(Problem, match="not overwritten"):
        tagging.say(one, "t", "give")
    assert tagging.file.read_text() == "{broken"
    tagging.close()
