"""The web page and the HTTP API of one library: routes, models of the answers, and the files of the page.

Paths of the API and of the page are different words: `/shapes/ID` is data, `/shape/ID` is a view of the page.
Nothing a client sends is ever opened as a path: files of the page are in a table, shapes are found by id.
Annotations are not postponed here: FastAPI reads them, and some are made in `create_app`.
"""

import asyncio
import hashlib
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field, StringConstraints
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from crosshape import __version__
from crosshape.errors import CrosshapeError, UsageError
from crosshape.page.catalogue import SORTS, Filters, Snapshot, shape_id
from crosshape.page.gate import INTERNAL, Gate, GateSettings
from crosshape.page.metrics import Metrics
from crosshape.page.parts import extras_of
from crosshape.page.problems import Problem, plain
from crosshape.page.review import marks_table
from crosshape.page.service import Service, Upload, compared
from crosshape.search.pictures import PICTURES
from crosshape.search.query import Answer, Sought, left_out
from crosshape.shapes.files import FORMATS

VIEWS = ("shape", "compare", "atlas", "review", "found", "tagging")
"""First words of the addresses of the page's views; the page itself finds out the rest."""

KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

MOST = 8
"""Queries that are asked at once, by the mean of their scores."""

Asked = tuple[Sought, dict[str, Any]]
"""What is looked for, and what is told of it."""

FOREVER = "private, max-age=31536000, immutable"
LOOK_AGAIN = "private, no-cache"


class ShapeLine(BaseModel):
    """A shape in a list. size: its longest side in its file's unit; picture: changes when its views do."""

    id: str
    name: str
    format: str
    faces: int
    vertices: int
    bytes: int
    size: float
    picture: str


class ShapePage(BaseModel):
    """Some of the shapes that pass the filters, and how many there are."""

    total: int
    offset: int
    version: int
    shapes: list[ShapeLine]


class ShapeFacts(ShapeLine):
    """All that is known of a shape. tag: the one people gave it; written: those of the library, unless they did."""

    path: str
    views: int
    extents: list[float]
    centre: list[float]
    radius: float
    area: float
    notes: list[str]
    content_hash: str
    tag: str | None
    written: list[str]
    changed: int
    embedded: bool


class Hit(ShapeLine):
    """A shape that was found: rank from 1, score (1 is the same to the model)."""

    rank: int
    score: float


class Usual(BaseModel):
    """What best scores shapes of this library get among themselves: below `low`, nothing like the query is here. Not
    told where filters leave out what is like it.
    """

    low: float
    middle: float


class Hits(BaseModel):
    """The answer to a search. query: what was asked, or its kind is `several` and `queries` tells them; token: the
    address of an upload's answer, `/search/TOKEN`; note: how the hits were found, where not every shape was compared
    or a picture shows no object; left_out: how many have no features yet.
    """

    query: dict[str, Any]
    over: str
    hits: list[Hit]
    usual: Usual | None
    nothing_like_this: bool
    note: str
    left_out: int
    milliseconds: float
    token: str | None = None


class Part(BaseModel):
    """A part of a shape: its colour as #rrggbb; its share of the area, or of the points of a cloud."""

    name: str
    colour: str
    share: float


class ShapeParts(BaseModel):
    """What `parts.glb` shows: the class whose parts they are, and whether it was told by the features (told) or asked
    for; the reason where the stored points are shown.
    """

    model_config = {"populate_by_name": True, "serialize_by_alias": True}

    category: Annotated[str, Field(alias="class")]
    told: bool
    shown: Literal["mesh", "points"]
    reason: str | None = None
    parts: list[Part]


class Folder(BaseModel):
    """A folder, and how many shapes lie in or below it."""

    folder: str
    count: int


class Given(BaseModel):
    """A tag, and how many shapes have it."""

    tag: str
    count: int


class About(BaseModel):
    """The library: what it holds, what can be asked of it, and what may be brought. parts: the classes whose parts
    the head of this server knows, empty where it has none.
    """

    name: str
    shapes: int
    version: int
    views: int
    model: str | None
    why_not: str | None
    formats: dict[str, int]
    folders: list[Folder]
    tags: list[Given]
    parts: dict[str, list[str]]
    max_upload: int
    reads: list[str]
    crosshape: str


class MapPlaces(BaseModel):
    """Every shape's place in the unit square, times 10,000, in the order of names; final when no longer refined."""

    version: int
    final: bool
    ids: list[str]
    x: list[int]
    y: list[int]
    label: list[int]
    labels: list[str]


class Progress(BaseModel):
    """What is being done, and how far it is."""

    what: str
    done: int
    total: int


class DuplicatePair(BaseModel):
    """Two shapes that may be the same, in which way (kind), on what evidence, and what someone said of them."""

    a: ShapeLine
    b: ShapeLine
    kind: str
    evidence: str
    group: int
    mark: str | None


class Duplicates(BaseModel):
    """state: not-looked-for, looking, ready, or old (the library has changed since)."""

    state: Literal["not-looked-for", "looking", "ready", "old"]
    progress: Progress | None
    failed: str | None
    pairs: list[DuplicatePair]


class Mark(BaseModel):
    """What someone says of two shapes, by their ids; null takes it back."""

    a: str
    b: str
    mark: Literal["same", "different", "unsure"] | None


class LearnedTag(BaseModel):
    """A tag that can be proposed; ready_precision: expected of what is ready, null where nothing is."""

    tag: str
    labelled: int
    ready_precision: float | None


class ProposedTag(BaseModel):
    """A tag for a shape: proposed, ready or to review, with the precision to expect of such; or kept in the library by
    `crosshape tag --write` and neither accepted nor refused yet, without a score.
    """

    shape: ShapeLine
    tag: str
    score: float | None
    state: Literal["ready", "to review", "in the library"]
    precision: float | None


class Tags(BaseModel):
    """Tags that were given, what was learned of them, and proposals, of one tag where one is asked for: the first 500
    of those that are `ready`, of those to review (`total` without the `ready`) and of those that are in the library
    (`written`). proposed: every tag that has any, and how many. unsure: said where labels cannot tell how often
    proposals are right.
    """

    working: bool
    why_not: str | None
    unsure: str | None
    given: list[Given]
    learned: list[LearnedTag]
    proposals: list[ProposedTag]
    proposed: list[Given]
    ready: int
    total: int
    written: int


class SaidTag(BaseModel):
    """What someone says of a shape: this is its tag, it is not, or it has none."""

    id: str
    tag: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=80)] = "-"
    said: Literal["give", "refuse", "clear"]


Over = Literal["points", "views", "both"]
Top = Annotated[int, Query(ge=1, le=200)]


def filters(
    q: Annotated[str, Query(max_length=200, description="words in the name")] = "",
    folder: Annotated[str, Query(max_length=1000)] = "",
    format: Annotated[str, Query(max_length=200, description="one or several, with commas")] = "",
    min_faces: int | None = None,
    max_faces: int | None = None,
    min_size: Annotated[float | None, Query(description="of the longest side")] = None,
    max_size: float | None = None,
    tag: Annotated[str, Query(max_length=80)] = "",
) -> Filters:
    """The filters in an address."""
    return Filters(q, folder, format, min_faces, max_faces, min_size, max_size, tag)


def create_app(service: Service, settings: GateSettings | None = None) -> Gate:
    """The application behind its gate."""
    from fastapi import Depends

    settings = settings or GateSettings()
    metrics = Metrics()

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        # Threads that wait for their turn to search must not keep others from looking.
        to_thread.current_default_thread_limiter().total_tokens = settings.at_once
        service.warm()
        yield

    app = FastAPI(
        title="crosshape",
        version=__version__,
        summary="A library of 3D shapes: look at it, search it, clean it up.",
        docs_url=None,
        redoc_url=None,
        lifespan=life,
        responses={"4XX": {"content": {"application/problem+json": {}}, "description": "RFC 9457 problem"}},
    )
    narrowed = Annotated[Filters, Depends(filters)]
    measure(metrics, service)

    async def current() -> Snapshot:
        return await run_in_threadpool(service.now)

    Now = Annotated[Snapshot, Depends(current)]

    # The library

    @app.get("/library", response_model=About, tags=["library"])
    def about(now: Now) -> Any:
        """What the library holds and what can be asked of it."""
        try:
            model, why_not = service.fingerprint(now), left_out(now.library)[0] or None
        except Problem as problem:
            model, why_not = None, problem.detail
        counts: dict[str, int] = {}
        for one in now.formats:
            counts[one] = counts.get(one, 0) + 1
        return {
            "name": service.catalogue.path.name,
            "shapes": len(now),
            "version": now.version,
            "views": now.library.settings.views,
            "model": model,
            "why_not": why_not,
            "formats": dict(sorted(counts.items())),
            "folders": [{"folder": folder, "count": count} for folder, count in now.folders[:2000]],
            "tags": service.tagging.counts(now)[:2000],
            "parts": service.segmenter.classes,
            "max_upload": settings.max_upload,
            "reads": [*FORMATS, *PICTURES],
            "crosshape": __version__,
        }

    @app.get("/shapes", response_model=ShapePage, tags=["library"])
    def shapes(
        now: Now,
        where: narrowed,
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
        sort: Annotated[str, Query(pattern=f"^-?({'|'.join(SORTS)})$")] = "name",
    ) -> Any:
        """A page of the shapes that pass the filters, in an order; "-" before the order turns it round."""
        rows = service.rows(now, where, sort)
        lines = [now.line(int(row)) for row in rows[offset : offset + limit]]
        return {"total": len(rows), "offset": offset, "version": now.version, "shapes": lines}

    @app.get("/shapes/{id}", response_model=ShapeFacts, tags=["library"])
    def shape(now: Now, id: str) -> Any:
        """All that is known of a shape. id: the first 20 hexadecimal digits of the SHA-256 of its name."""
        row = now.find(id)
        facts = now.facts(row)
        told = ("path", "extents", "centre", "radius", "area", "notes", "content_hash")
        tag, written = service.tagging.of(now, row)
        return {
            **now.line(row),
            **{key: facts[key] for key in told},
            "tag": tag,
            "written": written,
            "changed": facts["modified"],
            "views": now.library.settings.views,
            "embedded": facts["model"] is not None and facts["model"] == now.library.leading_model()[0],
        }

    @app.get("/shapes/{id}/views/{view}.png", response_class=Response, tags=["library"])
    def view(now: Now, request: Request, id: str, view: int, v: str = "") -> Response:
        """A stored view; with ?v= the shape's `picture` it may be kept for ever."""
        row = now.find(id)
        tag = f'"{now.pictures[row]}-{view}"'
        headers = {"ETag": tag, "Cache-Control": FOREVER if v == now.pictures[row] else LOOK_AGAIN}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(service.picture(now, row, view), media_type="image/png", headers=headers)

    @app.get("/shapes/{id}/mesh.glb", response_class=Response, tags=["library"])
    async def mesh(now: Now, request: Request, id: str) -> Response:
        """The shape's file as binary glTF; its stored points where the file is gone, changed or too large."""
        row = now.find(id)
        with service.meshes.place() as submit:
            data = await finished(request, submit(service.scene, now, row))
        return scene(request, data)

    Category = Annotated[
        str | None, Query(alias="class", max_length=200, description="default: told by its features")
    ]

    async def painted(now: Now, request: Request, id: str, category: Category = None) -> bytes:
        row = now.find(id)
        service.segmenter.asked(category)
        with service.uploads.place() as submit:
            return await finished(request, submit(service.parts, now, row, category))

    Painted = Annotated[bytes, Depends(painted)]

    @app.get("/shapes/{id}/parts.glb", response_class=Response, tags=["parts"])
    def parts_mesh(request: Request, data: Painted) -> Response:
        """The shape as binary glTF in the colours of its parts, by the head that the server was started with."""
        return scene(request, data)

    @app.get("/shapes/{id}/parts", response_model=ShapeParts, tags=["parts"])
    def parts(data: Painted) -> Any:
        """The parts of a shape: names, colours and shares, as `parts.glb` shows them."""
        return extras_of(data)

    # Searching

    @app.get("/search", response_model=Hits, tags=["search"])
    def search(
        now: Now,
        where: narrowed,
        request: Request,
        id: Annotated[list[str], Query(description="of a shape; may be repeated")] = [],  # noqa: B006
        name: Annotated[list[str], Query(description="of a shape; may be repeated")] = [],  # noqa: B006
        token: Annotated[list[str], Query(description="of something that was sent; may be repeated")] = [],  # noqa: B006
        top: Top = 24,
        over: Over = "both",
    ) -> Any:
        """The shapes most like a shape of the library, or like several together, by the mean of their scores."""
        begun = time.perf_counter()
        asked = [pair for pair in request.query_params.multi_items() if pair[0] in ("id", "name", "token")]
        if not asked:
            raise Problem(400, "bad-request", "Give the id or the name of a shape.")
        return answered(now, named(now, asked), top, over, where, begun)

    @app.post("/search", response_model=Hits, tags=["search"], openapi_extra=_upload_body())
    async def bring(now: Now, where: narrowed, request: Request, top: Top = 24, over: Over = "both") -> Any:
        """The shapes most like a shape file or a picture that is sent along, or like several together, by the mean of
        their scores. Files are deleted after the answer.
        """
        begun = time.perf_counter()
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            raise Problem(415, "no-form", "Send the file as the field `file` of a multipart/form-data form.")
        asked: list[Asked] = []
        with service.uploads.place() as submit:
            folders = []
            try:
                async with request.form(max_files=MOST, max_fields=MOST, max_part_size=1 << 16) as form:
                    sent = [one for one in form.getlist("file") if not isinstance(one, str)]
                    if not sent:
                        raise Problem(400, "no-file", "The form has no file in the field `file`.")
                    words = [
                        (key, readable(str(value)))
                        for key, value in form.multi_items()
                        if key in ("id", "name", "token")
                    ]
                    asked = await run_in_threadpool(named, now, words, len(sent))
                    paths = []
                    for one in sent:
                        filename = readable(one.filename or "")[-200:]
                        path = await run_in_threadpool(service.receive, filename)
                        folders.append(path.parent)
                        with open(path, "wb") as out:
                            await run_in_threadpool(shutil.copyfileobj, one.file, out, 1 << 20)
                        paths.append((path, filename))
                for path, filename in paths:
                    upload = await finished(request, submit(service.look, path, filename))
                    if upload.model != service.fingerprint(now):
                        raise Problem(
                            503, "changed", "The library was embedded anew meanwhile.", {"Retry-After": "1"}
                        )
                    asked.append((upload.what, about_upload(upload, service.remember(upload))))
            except ClientDisconnect:
                raise gone() from None
            except (MultiPartException, HTTPException) as error:
                wrong = getattr(error, "message", None) or getattr(error, "detail", "broken form")
                raise Problem(400, "bad-form", f"The form cannot be read: {wrong}") from None
            finally:
                for folder in folders:
                    await run_in_threadpool(shutil.rmtree, folder, True)
        return await run_in_threadpool(answered, now, asked, top, over, where, begun)

    @app.get("/search/{token}", response_model=Hits, tags=["search"])
    def again(now: Now, where: narrowed, token: str, top: Top = 24, over: Over = "both") -> Any:
        """The answer to something that was sent, from what is remembered of it, with other choices."""
        return answered(now, named(now, [("token", token)]), top, over, where, time.perf_counter())

    def named(now: Snapshot, words: Sequence[tuple[str, str]], more: int = 0) -> list[Asked]:
        """What is asked for by ids, names and tokens; more: files that come with them. Raises Problem."""
        if len(words) + more > MOST:
            raise Problem(
                400, "too-many-queries", f"{len(words) + more} queries at once; {MOST} are the most."
            )
        asked: list[Asked] = []
        for kind, word in words:
            if kind == "token":
                upload = service.recall(word, now)
                asked.append((upload.what, about_upload(upload, word)))
            else:
                row = now.find(word) if kind == "id" else now.named(word)
                asked.append((service.named(now, row), {"kind": "library", **now.line(row)}))
        return asked

    def answered(
        now: Snapshot, asked: Sequence[Asked], top: int, over: str, where: Filters, begun: float
    ) -> dict[str, Any]:
        what = [one for one, _ in asked]
        over = compared(what, over)
        answer = service.like(now, what, top, over, where)
        several = {"kind": "several", "queries": [about for _, about in asked]}
        return told(now, answer, over, several if len(asked) > 1 else asked[0][1], begun)

    @app.get("/search/{token}/{view}.png", response_class=Response, tags=["search"])
    def brought(token: str, view: int) -> Response:
        """A picture of something that was sent: a shape's view, or the picture as the model sees it."""
        upload = service.recall(token)
        if not 0 <= view < len(upload.pictures):
            raise Problem(404, "no-such-view", f"Views are numbered 0 to {len(upload.pictures) - 1}.")
        return Response(
            upload.pictures[view], media_type="image/png", headers={"Cache-Control": "private, max-age=3600"}
        )

    @app.get("/map", response_model=MapPlaces, tags=["map"])
    def places(now: Now) -> Any:
        """The map: a place for every shape. Made at once, then refined in the background."""
        at, final = service.map.places(now)
        known, label = now.labels
        grid = (at * 10_000).round().astype(int)
        return {
            "version": now.version,
            "final": final,
            "ids": now.ids,
            "x": grid[:, 0].tolist(),
            "y": grid[:, 1].tolist(),
            "label": label.tolist(),
            "labels": known[:64],
        }

    # Duplicates

    @app.get("/duplicates", response_model=Duplicates, tags=["duplicates"])
    def duplicates(now: Now) -> Any:
        """The pairs that were found, with their marks; how far the search is."""
        return service.review.state(now)

    @app.post("/duplicates", response_model=Duplicates, status_code=202, tags=["duplicates"])
    def look_for_duplicates(now: Now) -> Any:
        """Begin to look for duplicates in the background; ask GET /duplicates how far it is."""
        service.review.look(now)
        return service.review.state(now)

    @app.put("/duplicates/marks", status_code=204, tags=["duplicates"])
    def mark(now: Now, said: Mark) -> None:
        """Note what someone says of a pair. Nothing is deleted, here or anywhere."""
        a, b = now.find(said.a), now.find(said.b)
        if a == b:
            raise Problem(422, "invalid", "A pair has two shapes; these ids are of one.")
        service.review.mark(now.names[a], now.names[b], said.mark)

    @app.get("/duplicates/table.csv", response_class=PlainTextResponse, tags=["duplicates"])
    def table(now: Now) -> Response:
        """The pairs and their marks as a table that is safe to open in a spreadsheet."""
        text = marks_table(service.review.state(now)["pairs"])
        return PlainTextResponse(
            text.encode("utf-8", "replace"),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="duplicates.csv"'},
        )

    # Tags

    @app.get("/tags", response_model=Tags, tags=["tags"])
    def tags(now: Now, tag: Annotated[str, Query(max_length=1000)] = "") -> Any:
        """The tags that were given, and those proposed for other shapes; learned in the background. tag: proposals of
        this one alone.
        """
        return service.tagging.state(now, tag)

    @app.put("/tags", status_code=204, tags=["tags"])
    def say(now: Now, told: SaidTag) -> None:
        """Give a shape a tag, refuse one that is proposed, or take one back."""
        service.tagging.say(now.names[now.find(told.id)], told.tag, told.said)

    @app.get("/tags/labels.csv", response_class=PlainTextResponse, tags=["tags"])
    def labels() -> Response:
        """The tags that were given, as `crosshape tag --from` reads them."""
        return PlainTextResponse(
            service.tagging.table().encode("utf-8", "replace"),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": 'attachment; filename="labels.csv"'},
        )

    # The server itself

    @app.get("/healthz", tags=["server"])
    def health(now: Now) -> dict[str, str]:
        """Whether the library can be read."""
        return {"status": "ok"}

    @app.get("/metrics", response_class=PlainTextResponse, tags=["server"])
    def numbers() -> Response:
        """Requests, times and queues, as Prometheus reads them."""
        return PlainTextResponse(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    # The page

    assets = page_files()

    def asset(name: str, request: Request) -> Response:
        content, kind, tag = assets[name]
        headers = {"ETag": tag, "Cache-Control": LOOK_AGAIN}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    @app.get("/", include_in_schema=False)
    def page(request: Request) -> Response:
        return asset("index.html", request)

    for word in VIEWS:
        app.get(f"/{word}", include_in_schema=False)(page)
        app.get(f"/{word}/{{rest:path}}", include_in_schema=False)(page)

    @app.get("/static/{name}", include_in_schema=False)
    def static(name: str, request: Request) -> Response:
        if name not in assets:
            raise plain(404)
        return asset(name, request)

    @app.get("/favicon.ico", include_in_schema=False)
    def icon() -> Response:
        return RedirectResponse("/static/icon.svg")

    handle_errors(app)
    return Gate(app, settings, metrics)


async def finished(request: Request, future: Future[Any]) -> Any:
    """What a job gives; the job is dropped, if it still waits, where nobody waits for it any more."""
    waiting = asyncio.ensure_future(asyncio.wrap_future(future))
    while not waiting.done():
        await asyncio.wait([waiting], timeout=1.0)
        if not waiting.done() and await request.is_disconnected():
            future.cancel()
            waiting.cancel()
            raise gone()
    return waiting.result()


def gone() -> Problem:
    """Who asked went away; the problem is counted, nobody reads it."""
    return Problem(499, "client-gone", "Nobody waits for this answer any more.")


def readable(text: str) -> str:
    """Words of a form without lone surrogates: its charset may make such, and no answer can hold them."""
    return text.encode("utf-8", "replace").decode()


def scene(request: Request, data: bytes) -> Response:
    """A GLB, or 304 where the client has it."""
    headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()[:20]}"', "Cache-Control": LOOK_AGAIN}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(data, media_type="model/gltf-binary", headers=headers)


def told(now: Snapshot, answer: Answer, over: str, asked: dict[str, Any], begun: float) -> dict[str, Any]:
    """An answer as JSON."""
    hits = []
    for hit in answer.hits:
        row = now.row.get(shape_id(hit.name))
        if row is not None:
            hits.append({**now.line(row), "rank": hit.rank, "score": hit.score})
    usual = answer.usual and {"low": round(answer.usual.low, 4), "middle": round(answer.usual.middle, 4)}
    return {
        "query": asked,
        "over": over,
        "hits": hits,
        "usual": usual,
        "nothing_like_this": answer.nothing_like_this,
        "note": answer.note,
        "left_out": answer.left_out,
        "milliseconds": round((time.perf_counter() - begun) * 1000, 2),
        "token": asked.get("token"),
    }


def about_upload(upload: Upload, token: str) -> dict[str, Any]:
    """What is told of an upload."""
    return {
        "kind": upload.kind,
        "name": upload.name,
        "token": token,
        "pictures": [f"/search/{token}/{i}.png" for i in range(len(upload.pictures))],
        **upload.facts,
    }


def measure(metrics: Metrics, service: Service) -> None:
    """The gauges of this server."""
    numbers: list[tuple[str, str, Callable[[], float]]] = [
        ("uploads_queue", "Uploads that wait or are read.", lambda: service.uploads.taken),
        ("meshes_queue", "Meshes that wait or are read.", lambda: service.meshes.taken),
        ("shapes", "Shapes in the library.", lambda: len(service.catalogue.snapshot)),
        ("library_version", "Version that is shown.", lambda: service.catalogue.snapshot.version),
        ("pictures_bytes", "Bytes of pictures kept.", lambda: service.pictures.size),
        ("scenes_bytes", "Bytes of meshes kept.", lambda: service.scenes.size),
    ]
    for name, help, value in numbers:
        metrics.gauge(f"crosshape_{name}", help, value)


NO_SUCH_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>No such page · crosshape</title>
<link rel="stylesheet" href="/static/style.css">
<script src="/static/theme.js"></script>
<main class="empty"><h1>There is no such page</h1><p>The address may have a slip of the finger in it.</p>
<a class="button" href="/">All shapes</a></main>
"""


def handle_errors(app: FastAPI) -> None:
    """Every error becomes a problem, a page that is not there one for people too; none shows a trace or a path of the
    server.
    """

    async def problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return error.response(request.url.path)

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404 and "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(NO_SUCH_PAGE, 404, {"Cache-Control": "no-store"})
        return plain(error.status_code, None, error.headers).response(request.url.path)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "the request"
        words = f"{where}: {first['msg']}."
        return Problem(422, "invalid", words).response(request.url.path)

    async def refused(request: Request, error: Exception) -> Response:
        if isinstance(error, UsageError):
            return Problem(422, "invalid", str(error)).response(request.url.path)
        return Problem(409, "refused", str(error)).response(request.url.path)

    async def failed(request: Request, error: Exception) -> Response:
        return INTERNAL.response(request.url.path)

    app.add_exception_handler(Exception, failed)
    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(CrosshapeError, refused)


def page_files() -> dict[str, tuple[bytes, str, str]]:
    """The files of the page by name: content, kind, ETag."""
    found = {}
    for entry in files("crosshape.page").joinpath("static").iterdir():
        kind = KINDS.get("." + entry.name.rsplit(".", 1)[-1])
        if kind and entry.is_file():
            content = entry.read_bytes()
            found[entry.name] = (content, kind, f'"{hashlib.sha256(content).hexdigest()[:16]}"')
    return found


def _upload_body() -> dict[str, Any]:
    words = {"type": "array", "maxItems": MOST, "items": {"type": "string"}}
    files = {**words, "minItems": 1, "items": {"type": "string", "format": "binary"}}
    properties = {"file": files, "id": words, "name": words, "token": words}
    schema = {"type": "object", "properties": properties, "required": ["file"]}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}
