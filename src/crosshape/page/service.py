"""What the page can do, without HTTP: answer searches, read uploads and meshes in guarded children, draw the map.

Everything here blocks; the server calls it on threads. Workers: `uploads` reads and encodes what people bring and
finds parts (whatever needs the model), `meshes` reads the library's own files, `indexing` makes the vector index
of a large library, so that none waits for another.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import secrets
import shutil
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crosshape.errors import CrosshapeError, UnreadableShape
from crosshape.library.library import open_library
from crosshape.page import layout
from crosshape.page.catalogue import Catalogue, Filters, Kept, Snapshot
from crosshape.page.glb import write_glb
from crosshape.page.jobs import Worker
from crosshape.page.parts import Segmenter
from crosshape.page.problems import Problem
from crosshape.page.review import Review
from crosshape.page.tagging import Tagging
from crosshape.page.together import Together
from crosshape.places import Address, beside
from crosshape.search import query
from crosshape.search.pictures import PICTURES, see_picture
from crosshape.search.query import Answer, Sought, Where
from crosshape.settings import Limits
from crosshape.shapes.files import FORMATS, Shape, load_shape
from crosshape.shapes.guard import Guard
from crosshape.shapes.prepare import prepare_file, warm_up

if TYPE_CHECKING:
    from crosshape.networks.model import Model

UPLOAD = Limits(
    max_bytes=128 << 20, max_faces=2_000_000, max_vertices=4_000_000, memory=2 << 30, seconds=60.0
)
"""What an upload may cost."""

SHOWN = replace(Limits(), memory=3 << 30, seconds=60.0, max_bytes=512 << 20, max_faces=3_000_000)
"""What a mesh of the library may cost to be shown; of larger ones the stored points are shown."""

REMEMBERED = 200
"""Uploads whose features are remembered, so that the address of their answer works."""


@dataclass(frozen=True)
class Upload:
    """What is remembered of an upload: its file's name, its features, pictures of it (PNG), facts; not the file."""

    name: str
    kind: str
    what: Sought
    pictures: tuple[bytes, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    """The fingerprint of the model that described it."""


class Service:
    """An open library and what answers for it; close it when done."""

    def __init__(
        self, path: Path | Address, run: str | None = None, places: int = 8, head: str | None = None
    ) -> None:
        self.catalogue = Catalogue(path)
        self.run = run
        self.segmenter = Segmenter(Path(head) if head is not None else None)
        self.uploads, self.meshes = Worker("uploads", places), Worker("meshes", 64)
        self.indexing = Worker("indexing", 1)
        self.making: Future[Any] | None = None
        self.upload_guard = Guard(1, UPLOAD, warm_up)
        self.mesh_guard = Guard(1, SHOWN)
        self.folder = Path(tempfile.mkdtemp(prefix="crosshape-serve-"))
        self.pictures, self.scenes = Kept(64 << 20), Kept(192 << 20)
        self.remembered: OrderedDict[str, Upload] = OrderedDict()
        self.map = Map(self)
        self.review = Review(path)
        self.tagging = Tagging(path)
        self.together = Together()
        self._lock = threading.Lock()
        self._model: tuple[str, Model] | None = None

    def close(self) -> None:
        """End the workers and their children, and leave nothing of any upload."""
        for worker in (self.uploads, self.meshes, self.indexing):
            worker.close()
        for part in (self.review, self.map, self.tagging, self.together):
            part.close()
        for guard in (self.upload_guard, self.mesh_guard):
            guard.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def now(self) -> Snapshot:
        """The newest snapshot of the library. Raises Problem where it is gone."""
        return self.catalogue.now()

    def warm(self) -> None:
        """Load features, model and the reading child before the first person asks."""

        def load() -> None:
            with contextlib.suppress(CrosshapeError, Problem):
                snapshot = self.now()
                if len(snapshot) <= query.EXACT:
                    snapshot.gallery()
                self.model(snapshot)
                if len(snapshot) > query.EXACT:
                    self.indexed(snapshot, ("points", "views"))

        def start(guard: Guard) -> None:
            with contextlib.suppress(CrosshapeError):
                guard.call(os.getpid)

        self.uploads.soon(load)
        self.uploads.soon(start, self.upload_guard)
        self.meshes.soon(start, self.mesh_guard)

    # Searching

    def model(self, snapshot: Snapshot) -> Model:
        """The model that embedded the library. Raises Problem where it is not there."""
        fingerprint = self.fingerprint(snapshot)
        with self._lock:
            if self._model is None or self._model[0] != fingerprint:
                try:
                    loaded = query.library_model(snapshot.library, fingerprint, self.run)
                except CrosshapeError as error:
                    raise Problem(409, "no-model", str(error)) from None
                self._model = (fingerprint, loaded)
            return self._model[1]

    def fingerprint(self, snapshot: Snapshot) -> str:
        """The model whose features most shapes have. Raises Problem where none has any."""
        try:
            return snapshot.library.leading_model()[0]
        except CrosshapeError as error:
            raise Problem(409, "not-embedded", str(error)) from None

    def like(
        self,
        snapshot: Snapshot,
        what: list[Sought],
        top: int,
        over: str,
        filters: Filters,
        calibrate: bool = True,
    ) -> Answer:
        """The shapes most like what is sought, of those that pass the filters. Raises Problem."""
        library = snapshot.library
        try:
            if len(snapshot) > query.EXACT:
                from crosshape.search import index

                self.indexed(snapshot, tuple(index.combined(what, over)))
                return index.ask(library, what, top, over, self.where(snapshot, filters))
            shapes = snapshot.gallery()
            picture = what[0].picture is not None
            if picture or len(what) > 1:
                scores = query.scores_of(library, shapes, what, over)
            else:
                scores = self.together.scores(shapes, what[0], over)
            # What is usual is known of one shape or picture, not of means over several.
            usual = (
                query.usual_scores(library, shapes, over, picture) if calibrate and len(what) == 1 else None
            )
            mask = self.mask(snapshot, filters)
            hits = query.ranked(scores, shapes, what, top, mask)
            first = [] if mask is None else query.ranked(scores, shapes, what, 1)
            likest = first[0].score if first else None
            return Answer(hits, usual, *query.left_out(library, what), likest)
        except CrosshapeError as error:
            raise Problem(409, "cannot-search", str(error)) from None

    def indexed(self, snapshot: Snapshot, kinds: Sequence[str]) -> None:
        """Raises Problem while the vector index of a large library is not there; it is made in the background."""
        from crosshape.search import index

        missing = [kind for kind in kinds if index.known(snapshot.library, index.COLUMNS[kind]) is None]
        if not missing:
            return
        with self._lock:
            done = self.making is not None and self.making.done()
            failed = self.making.exception() if self.making is not None and done else None
            if self.making is None or done:
                self.making = (
                    None if failed else self.indexing.soon(make_index, snapshot.library.path, missing)
                )
        if failed:
            raise Problem(409, "no-index", f"The vector index could not be made: {failed}")
        words = (
            f"The vector index over {len(snapshot):,} shapes is being made; this is done once and takes minutes. "
            "The shapes can be looked at meanwhile."
        )
        raise Problem(503, "index-being-made", words, {"Retry-After": "20"})

    def mask(self, snapshot: Snapshot, filters: Filters) -> NDArray[np.bool_] | None:
        """(N,): which rows pass the filters; None for all."""
        if not filters:
            return None
        return snapshot.mask(filters, self.tagging.tagged(snapshot, filters.tag) if filters.tag else None)

    def rows(self, snapshot: Snapshot, filters: Filters, sort: str) -> NDArray[np.int64]:
        """The rows that pass the filters, in an order."""
        tagged = self.tagging.tagged(snapshot, filters.tag) if filters.tag else None
        return snapshot.rows(filters, sort, tagged)

    def where(self, snapshot: Snapshot, filters: Filters) -> Where | None:
        """Filters as the vector index takes them. Raises Problem for words in the name, which it does not know."""
        if filters.text:
            words = "Words in the name cannot be asked for together with likeness in a library of this size."
            raise Problem(400, "cannot-filter", words)
        if not filters:
            return None
        tagged: tuple[str, ...] = ()
        untagged: tuple[str, ...] = ()
        if filters.tag:
            given, refused = self.tagging.kept()
            tagged = tuple(name for name, tag in given.items() if tag == filters.tag)
            others = {name for name, tag in given.items() if tag != filters.tag}
            untagged = tuple(others | {name for name, tag in refused if tag == filters.tag} - set(tagged))
        return Where(
            min_size=filters.min_size,
            max_size=filters.max_size,
            min_faces=filters.min_faces,
            max_faces=filters.max_faces,
            formats=tuple(filters.format.split(",")) if filters.format else (),
            folder=filters.folder or None,
            tag=filters.tag if filters.tag and any(snapshot.tags) else None,
            tagged=tagged if filters.tag else None,
            untagged=untagged,
        )

    def named(self, snapshot: Snapshot, row: int) -> Sought:
        """What a shape of the library looks for. Raises Problem."""
        try:
            if len(snapshot) > query.EXACT:
                return query.sought(snapshot.library, [snapshot.names[row]])[0]
            shapes = snapshot.gallery()
            if shapes.known is not None and not shapes.known[row]:
                raise CrosshapeError(query.without(snapshot.library, snapshot.names[row]))
        except CrosshapeError as error:
            raise Problem(409, "not-embedded", str(error)) from None
        return Sought(shapes.points[row], shapes.views[row], None, snapshot.names[row])

    def receive(self, filename: str) -> Path:
        """A new private folder and the path in it under which an upload is written; only the suffix is theirs.

        Raises Problem for a suffix that is neither a shape's nor a picture's.
        """
        suffix = os.path.splitext(filename)[1].lower()
        if suffix not in FORMATS and suffix not in PICTURES:
            known = " ".join((*FORMATS, *PICTURES))
            what = f"'{suffix}' files are" if suffix else "A file without a suffix is"
            raise Problem(415, "unknown-format", f"{what} neither shapes nor pictures known here: {known}.")
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        return folder / (secrets.token_hex(8) + suffix)

    def look(self, path: Path, filename: str) -> Upload:
        """Read an upload in the child and encode it. Raises Problem. Runs on the worker."""
        snapshot = self.now()
        model = self.model(snapshot)
        settings = snapshot.library.settings
        try:
            if path.suffix in PICTURES:
                picture, missing = self.upload_guard.call(see_picture, str(path), settings.image_size)
                what = query.encode_picture(picture, model, whole=missing)
                return Upload(filename, "picture", what, (_png(picture),), model=model.fingerprint)
            prepared = self.upload_guard.call(prepare_file, str(path), settings, UPLOAD)
        except UnreadableShape as error:
            kind = "picture" if path.suffix in PICTURES else "shape"
            raise Problem(422, "unreadable", f"This file gives no {kind}: {error.reason}.") from None
        facts = prepared.facts
        known = {
            "format": facts.format,
            "faces": facts.faces,
            "vertices": facts.vertices,
            "bytes": facts.bytes,
            "extents": list(facts.extents),
            "notes": list(facts.notes),
        }
        pictures = tuple(_png(view) for view in prepared.views)
        what = query.encode_query(prepared, model)
        return Upload(filename, "shape", what, pictures, known, model.fingerprint)

    def remember(self, upload: Upload) -> str:
        """Keep what is known of an upload under a random name."""
        token = secrets.token_urlsafe(12)
        with self._lock:
            self.remembered[token] = upload
            while len(self.remembered) > REMEMBERED:
                self.remembered.popitem(last=False)
        return token

    def recall(self, token: str, snapshot: Snapshot | None = None) -> Upload:
        """What was remembered, if it can be compared with the library as it is. Raises Problem 404."""
        with self._lock:
            upload = self.remembered.get(token)
        if upload is not None and snapshot is not None and upload.model != self.fingerprint(snapshot):
            upload = None  # another model has embedded the library since
        if upload is None:
            words = "This search is not remembered any more. Bring the file again."
            raise Problem(404, "search-forgotten", words)
        return upload

    # Looking

    def picture(self, snapshot: Snapshot, row: int, view: int) -> bytes:
        """A stored view as its PNG. Raises Problem 404."""
        views = snapshot.library.settings.views
        if not 0 <= view < views:
            raise Problem(404, "no-such-view", f"Views are numbered 0 to {views - 1}.")
        key = (snapshot.pictures[row], view)
        found = self.pictures.get(key)
        if found is None:
            found = snapshot.library.view_png(snapshot.names[row], view)
            self.pictures.put(key, found)
        return found

    def scene(self, snapshot: Snapshot, row: int) -> bytes:
        """A shape as GLB: its file read in the child, or the stored points and the reason. Runs on the worker."""
        facts = snapshot.facts(row)
        content = facts["content_hash"]
        key = (snapshot.mark, content)
        found = self.scenes.get(key)
        if found is None:
            try:
                found = self.mesh_guard.call(
                    glb_of_file, facts["path"], snapshot.library.settings.up, content, facts["centre"]
                )
            except UnreadableShape as error:
                return self.cloud(snapshot, row, error.reason)
            self.scenes.put(key, found)
        return found

    def cloud(self, snapshot: Snapshot, row: int, reason: str) -> bytes:
        """The stored points of a shape as GLB."""
        stored = self.stored(snapshot, row)
        extras = {"shown": "points", "reason": reason}
        centre = snapshot.facts(row)["centre"]
        return write_glb(stored.vertices, centre=centre, normals=stored.normals, extras=extras)

    def stored(self, snapshot: Snapshot, row: int) -> Shape:
        """The stored points of a shape, in the place and the unit of its file."""
        name, facts = snapshot.names[row], snapshot.facts(row)
        points = snapshot.library.points([name])[0].astype(np.float64) * facts["radius"]
        return Shape(
            points + np.asarray(facts["centre"]),
            np.empty((0, 3), np.int64),
            snapshot.library.normals([name])[0].astype(np.float64),
            facts["format"],
            facts["content_hash"],
            facts["bytes"],
            (),
            0.0,
        )

    def parts(self, snapshot: Snapshot, row: int, category: str | None) -> bytes:
        """A shape as GLB in the colours of its parts, kept for the next who asks; its stored points where the file is
        gone, changed or too large. Raises Problem. Runs on the worker `uploads`, where the model is.
        """
        facts, model = snapshot.facts(row), self.model(snapshot)
        key = ("parts", snapshot.mark, model.fingerprint, facts["content_hash"], category)
        found = self.scenes.get(key)
        if found is not None:
            return found
        told: dict[str, Any] = {"shown": "points"}
        try:
            shape = self.upload_guard.call(
                shape_of_file, facts["path"], snapshot.library.settings.up, facts["content_hash"], UPLOAD
            )
            if not shape.is_cloud:
                told["shown"] = "mesh"
        except UnreadableShape as error:
            shape, told["reason"] = self.stored(snapshot, row), error.reason
        found = self.segmenter.paint(model, shape, category, facts["centre"], told)
        if "reason" not in told:
            self.scenes.put(key, found)
        return found

    def check_model(self) -> None:
        """Read the model that was given. Raises CrosshapeError where it is none, or not the library's."""
        from crosshape.networks.model import load_model

        try:
            self.model(self.now())
        except Problem as problem:
            if problem.kind != "not-embedded":
                raise CrosshapeError(problem.detail) from None
            load_model(str(self.run), "cpu")

    def check_head(self) -> None:
        """Read the head that was given. Raises CrosshapeError where it does not fit the library's model."""
        try:
            self.segmenter.head(self.model(self.now()))
        except Problem as problem:
            raise CrosshapeError(problem.detail) from None


def compared(what: Sequence[Sought], over: str) -> str:
    """What is compared: pictures have views only. Raises Problem where points are asked for and one is a picture."""
    pictures = [one.picture is not None for one in what]
    if over == "points" and any(pictures):
        raise Problem(400, "no-points", "A picture has no points; search over views or both.")
    return "views" if all(pictures) else over


def make_index(path: Path | Address, kinds: Sequence[str]) -> None:
    """Make the index of features that have none, and measure it."""
    from crosshape.search import index

    library = open_library(path)
    for kind in kinds:
        index.ready(library, index.COLUMNS[kind])


def shape_of_file(path: str, up: str, content_hash: str, limits: Limits) -> Shape:
    """The shape in a file of the library, if it still is what was added. Runs in a guarded child."""
    if not os.path.exists(path):
        raise UnreadableShape("its file is not where it was")
    shape = load_shape(path, limits, up)
    if shape.content_hash != content_hash:
        raise UnreadableShape("its file has changed since it was added")
    return shape


def glb_of_file(path: str, up: str, content_hash: str, centre: list[float]) -> bytes:
    """A file of the library as GLB, if it still is what was added. Runs in a guarded child."""
    shape = shape_of_file(path, up, content_hash, SHOWN)
    faces = None if shape.is_cloud else shape.faces
    extras = {"shown": "points" if shape.is_cloud else "mesh"}
    normals = shape.normals if shape.is_cloud else None
    return write_glb(shape.vertices, faces, centre=centre, normals=normals, extras=extras)


def _png(view: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(view).save(out, "PNG")
    return out.getvalue()


class Map:
    """The places of all shapes: at once by principal components, then by t-SNE, which is kept beside the library."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.guard = Guard(1, Limits(memory=8 << 30, seconds=3600.0))
        self._lock = threading.Lock()
        self._key = ""
        self._places: NDArray[np.float32] | None = None
        self._refined: Future[Any] | None = None
        self._worker = Worker("map", 4)

    def places(self, snapshot: Snapshot) -> tuple[NDArray[np.float32], bool]:
        """(N, 2) in the unit square, and whether these are final. Raises Problem where not all have features."""
        fingerprint = self.service.fingerprint(snapshot)
        if missing := query.left_out(snapshot.library)[0]:
            raise Problem(409, "not-embedded", f"The map is drawn when all shapes have features. {missing}")
        of = (fingerprint, *snapshot.names, *snapshot.pictures)  # a changed file has other features
        text = "\n".join(of).encode("utf-8", "surrogatepass")
        key = f"{fingerprint}-{hashlib.sha256(text).hexdigest()[:16]}"
        with self._lock:
            if key != self._key:
                kept = layout.read_map(self.file, key, len(snapshot))
                vectors = self._vectors(snapshot) if kept is None else None
                self._key, self._refined = key, None
                if vectors is not None:
                    kept = layout.flat(vectors)
                    self._refined = self._worker.soon(self._refine, key, vectors)
                self._places = kept
            assert self._places is not None
            done = self._refined is None or self._refined.done()
            return self._places, done

    def close(self) -> None:
        """Refine no more, and end the child."""
        self._worker.close()
        self.guard.close()

    @property
    def file(self) -> Path:
        """Where the map is kept: beside the library, under its name."""
        return beside(self.service.catalogue.path, ".map.json")

    def _vectors(self, snapshot: Snapshot) -> NDArray[np.float32]:
        if len(snapshot) > query.EXACT:  # all features would not fit the memory
            raise Problem(409, "too-many-shapes", f"The map is drawn for up to {query.EXACT:,} shapes.")
        try:
            shapes = snapshot.gallery()
        except CrosshapeError as error:
            raise Problem(409, "not-embedded", str(error)) from None
        return layout.components(shapes.points, shapes.views)

    def _refine(self, key: str, vectors: NDArray[np.float32]) -> None:
        with contextlib.suppress(CrosshapeError):
            places = self.guard.call(layout.spread, vectors)
            with self._lock:
                if self._key == key:
                    self._places = places
            with contextlib.suppress(OSError):
                layout.write_map(self.file, key, places)
