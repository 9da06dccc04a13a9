"""Tags learned from a few labelled shapes and proposed for the rest, with the precision that can be expected.

One logistic regression a tag on the features (points and views of unit length), weighed so that rare tags count.
Thresholds come from scores of labelled shapes that the classifier had not seen (stratified folds): a proposal is
*ready* above the score from which at least READY of those were right, *to review* above the one from which at
least REVIEW were, else there is *not enough evidence*. That holds for shapes of the kinds that somebody labelled: how
many of the others are of none of these is estimated by likeness, and where they are more than UNKNOWN nothing is ready
and no precision is promised.
"""

from __future__ import annotations

import csv
import io
import warnings
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from unicodedata import normalize

import numpy as np

from crosshape.errors import CrosshapeError, nearest_name
from crosshape.files import parse_json
from crosshape.library.notes import tags_file
from crosshape.places import Address
from crosshape.sheets import bare_cell

if TYPE_CHECKING:
    from crosshape.library.library import Library

READY, REVIEW = 0.95, 0.6
"""Expected precision of what is ready, and of what is to be reviewed."""

FOLDS = 5

BLOCK = 4096
"""Shapes that are compared with the labelled ones at once."""

LEAST = 3
"""Labelled shapes a tag needs to be learned; with fewer nothing can be said of its precision."""

PRIOR = 1
"""Wrong proposals that are added to those counted, so that three right of three do not promise certainty."""

SURE = 19
"""Labelled shapes a tag needs before anything can be ready: with fewer, all of them right and PRIOR wrong are not
READY.
"""

APART = 0.1
"""Share of a tag's labelled shapes that may be less like the others of the tag than a shape has to be to get it."""

UNKNOWN = 0.1
"""Share of the shapes without a tag that may be of kinds nobody labelled, for labels to tell how often tags are right.
"""

ENOUGH = 10
"""Labelled shapes a tag needs before a precision is told: with fewer, likeness cannot tell kinds that nobody labelled.
"""

STATES = ("ready", "to review", "not enough evidence")


@dataclass(frozen=True)
class Proposal:
    """A tag for a shape: score, 0 to 1; its state; expected precision among those of this state and tag."""

    name: str
    tag: str
    score: float
    state: str
    precision: float | None


@dataclass(frozen=True)
class Learned:
    """A tag: labelled shapes; thresholds of ready and review; precision expected of what is ready, and of what lies
    between the two; None where there is no such score. unknown: about which share of the shapes without a tag is like
    none with one, the same for all tags.
    """

    tag: str
    labelled: int
    ready: float | None
    ready_precision: float | None
    review: float | None
    review_precision: float | None
    unknown: float = 0.0


def said_tags(library: Path | Address) -> tuple[dict[str, str], set[tuple[str, str]]]:
    """What people said on the page: name -> tag that was given; (name, tag) that were refused. Empty where nobody
    said anything. Raises CrosshapeError for a file that cannot be read.
    """
    file = tags_file(library)
    try:
        kept = parse_json(file.read_bytes())
        labels = {str(name): str(tag) for name, tag in kept["labels"].items()}
        return labels, {(str(name), str(tag)) for name, tag in kept["refused"]}
    except FileNotFoundError:
        return {}, set()
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        words = f"{file.name} cannot be read. Mend it or move it away; it is not overwritten."
        raise CrosshapeError(words) from None


def read_labels(path: str | Path, names: list[str]) -> dict[str, str]:
    """Name -> tag of a CSV of `name,tag` rows, a head (in any case) or not; semicolons or tabs between them do as well.

    The apostrophe that tables written here put before what a spreadsheet would compute is taken away. Raises
    CrosshapeError with the line that is wrong, and for a table of proposals: what nobody looked at is no label.
    """
    from crosshape.search.query import by_composed

    known = set(names)
    composed = cache(lambda: by_composed(names))

    def shape(cell: str) -> str:
        """The name in a cell: as it stands there, or without blanks at its ends, accents composed or not."""
        for name in (bare_cell(cell), bare_cell(cell.strip())):
            if name in known:
                return name
        same = [] if name.isascii() else composed().get(normalize("NFC", name), [])
        return same[0] if len(same) == 1 else name

    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            text = file.read()
        rows = _table(text, lambda cell: shape(cell) in known)
    except UnicodeDecodeError:
        raise CrosshapeError(f"{path} is no CSV in UTF-8; save it as 'CSV UTF-8'.") from None
    except csv.Error as error:
        raise CrosshapeError(f"{path} is no CSV: {error}.") from None
    head = [cell.strip().lower() for cell in rows[0]] if rows else []
    if head[2:4] == ["score", "state"]:
        raise CrosshapeError(
            f"{path} holds proposals, not labels. Keep the lines that are right, and of these name and tag alone."
        )
    labels: dict[str, str] = {}
    for number, row in enumerate(rows, 1):
        cells = [*map(shape, row[:1]), *(bare_cell(cell.strip()) for cell in row[1:])]
        if not any(cells) or (number == 1 and head[:2] == ["name", "tag"]):
            continue
        if len(cells) < 2 or not cells[0] or not cells[1]:
            raise CrosshapeError(f"{path}, line {number}: two columns are needed, name and tag.")
        if cells[0] not in known:
            near = nearest_name(cells[0], names)
            hint = f"; did you mean '{near}'?" if near else "."
            raise CrosshapeError(f"{path}, line {number}: there is no shape '{cells[0]}'{hint}")
        if labels.get(cells[0], cells[1]) != cells[1]:
            raise CrosshapeError(
                f"{path}, line {number}: '{cells[0]}' has two tags, '{labels[cells[0]]}' and '{cells[1]}'."
            )
        labels[cells[0]] = cells[1]
    if not labels:
        raise CrosshapeError(f"{path} holds no labels. Write a line for each labelled shape: name,tag")
    return labels


def _table(text: str, names_shape: Callable[[str], bool]) -> list[list[str]]:
    """The rows of a CSV; between its cells stands the first of three signs by which line 1 is a head or names a shape.

    Where it is neither by any of them, the first that is there. Raises csv.Error.
    """
    first = text.partition("\n")[0]
    signs = [sign for sign in ",;\t" if sign in first] or [","]
    for sign in signs:
        row = next(csv.reader(io.StringIO(text, newline=""), delimiter=sign), [])
        if [cell.strip().lower() for cell in row[:2]] == ["name", "tag"] or (row and names_shape(row[0])):
            break
    else:
        sign = signs[0]
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=sign))


def propose(
    library: Library,
    labels: dict[str, str],
    *,
    over: str = "both",
    seed: int = 0,
    refused: Collection[tuple[str, str]] = (),
) -> tuple[list[Learned], list[Proposal]]:
    """What was learned of each tag, and the best tag for each shape without one. Raises CrosshapeError.

    A shape that is less like every labelled one of a tag than most of these are like each other has not enough evidence
    for it. refused: (name, tag) that people said no to; it is learned that they are not, and the next best tag is
    proposed instead. Shapes without features are left out, labelled ones too.
    """
    from crosshape.search.groups import described
    from crosshape.search.query import check_over, compared

    check_over(over)
    shapes = compared(library)
    place = {name: row for row, name in enumerate(shapes.names)}
    labels = {name: tag for name, tag in labels.items() if name in place}
    counts = Counter(labels.values())
    tags = sorted(tag for tag, count in counts.items() if count >= LEAST)
    if not tags:
        raise CrosshapeError(f"no tag has {LEAST} labelled shapes or more; label some more.")
    if len(counts) < 2:
        raise CrosshapeError("there is only one tag; a second one, such as 'other', shows what it is not.")
    for tag in tags:
        if len(labels) - counts[tag] < 2:
            raise CrosshapeError(
                f"only one labelled shape is not '{tag}'; label another one that is not, so that what is learned can "
                "be tried on a shape it has not seen."
            )
    vectors = described(shapes.points, shapes.views, over)
    rows = np.array([place[name] for name in sorted(labels)])
    truth = np.array([labels[shapes.names[row]] for row in rows])
    mean, spread = vectors[rows].mean(axis=0), vectors[rows].std() + 1e-12
    scaled = (vectors - mean) / spread
    rest = np.array([row for row in range(len(shapes.names)) if shapes.names[row] not in labels], np.int64)
    refusals = sorted({(name, tag) for name, tag in refused if name in place and name not in labels})
    no = {tag: scaled[[place[name] for name, one in refusals if one == tag]] for tag in tags}
    like, unknown = _like(vectors, rows, truth, rest, tags)
    held, denied = _held_out(scaled[rows], truth, tags, no, seed)
    best = held.argmax(axis=1)
    learned = []
    for number, tag in enumerate(tags):
        mine = best == number
        right = np.concatenate([truth[mine] == tag, np.zeros(len(no[tag]), bool)])
        given = np.concatenate([held[mine, number], denied[tag]])
        ready = threshold(given, right, READY) if unknown <= UNKNOWN else (None, None)
        below = np.ones(len(given), bool) if ready[0] is None else given < ready[0]
        review = threshold(given[below], right[below], REVIEW)
        if unknown > UNKNOWN or counts[tag] < ENOUGH:
            review = review[0], None
        learned.append(Learned(tag, counts[tag], *ready, *review, round(unknown, 3)))
    scores = _scores(scaled[rows], truth, scaled[rest], tags, no)
    at = {shapes.names[row]: line for line, row in enumerate(rest)}
    for name, tag in refused:
        if name in at and tag in tags:
            scores[at[name], tags.index(tag)] = -1.0
    proposals = []
    for row, line, near in zip(rest, scores, like, strict=True):
        number = int(line.argmax())
        about, score = learned[number], float(line.max())
        if score < 0:  # every tag was refused
            continue
        state, precision = judge(about, score) if near[number] else (STATES[-1], None)
        proposals.append(Proposal(shapes.names[row], about.tag, round(score, 4), state, precision))
    proposals.sort(key=lambda one: (STATES.index(one.state), one.tag, -one.score, one.name))
    return learned, proposals


def judge(about: Learned, score: float) -> tuple[str, float | None]:
    """The state of a score of a tag, and the precision that can be expected."""
    if about.ready is not None and score >= about.ready:
        return "ready", about.ready_precision
    if about.review is not None and score >= about.review:
        return "to review", about.review_precision
    return "not enough evidence", None


def doubt(learned: list[Learned]) -> str | None:
    """What has to be said where labels cannot tell how often proposals are right; None where they can."""
    unknown = learned[0].unknown if learned else 0.0
    if unknown <= UNKNOWN:
        return None
    return (
        f"About {unknown:.0%} of the shapes without a tag look like no labelled one of any tag, so these labels cannot "
        "tell how often proposals are right, and nothing is ready. Give some of those shapes a tag of their own, or "
        "'other', and refuse wrong proposals on the page: both are learned from."
    )


def threshold(scores: np.ndarray, right: np.ndarray, level: float) -> tuple[float | None, float | None]:
    """The lowest score from which at least `level` were right, and that share, PRIOR wrong ones counted in.

    Equal scores are on the same side of it.
    """
    order = np.argsort(-scores, kind="stable")
    share = np.cumsum(right[order]) / (np.arange(len(order)) + 1 + PRIOR)
    ends = np.append(np.diff(scores[order]) < 0, True)[: len(order)]
    good = np.flatnonzero((share >= level) & ends)
    if len(good) == 0:
        return None, None
    last = good[-1]
    return float(scores[order[last]]), round(float(share[last]), 3)


def _like(
    vectors: np.ndarray, rows: np.ndarray, truth: np.ndarray, rest: np.ndarray, tags: list[str]
) -> tuple[np.ndarray, float]:
    """(M, T): which of the rest are as like a tag's labelled shapes as all but APART of these are like each other; and
    about which share of the rest is of kinds that nobody labelled.

    The share: of known kinds APART are like no tag, of unknown ones as many as labelled shapes of *other* tags are.
    """
    known = vectors[rows] @ vectors[rows].T
    np.fill_diagonal(known, -np.inf)
    own = [truth == tag for tag in tags]
    nearest = np.stack([known[:, mine].max(axis=1) for mine in own], axis=1)
    least = np.array([np.quantile(nearest[mine, number], APART) for number, mine in enumerate(own)])
    like = np.zeros((len(rest), len(tags)), bool)
    for start in range(0, len(rest), BLOCK):
        some = vectors[rest[start : start + BLOCK]]
        for number, mine in enumerate(own):
            like[start : start + BLOCK, number] = (some @ vectors[rows[mine]].T).max(axis=1) >= least[number]
    if not len(rest):
        return like, 0.0
    foreign = float(((nearest >= least) & (truth[:, None] != np.array(tags))).any(axis=1).mean())
    alone = float((~like.any(axis=1)).mean())
    return like, float(np.clip((alone - APART) / max(1 - APART - foreign, APART), 0, 1))


def _held_out(
    vectors: np.ndarray, truth: np.ndarray, tags: list[str], no: dict[str, np.ndarray], seed: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(N, T): scores of each labelled shape by a classifier that had not seen it; and of those that were refused."""
    from sklearn.model_selection import StratifiedKFold

    folds = min(FOLDS, *(int((truth == tag).sum()) for tag in tags))
    out = np.zeros((len(truth), len(tags)))
    rare = np.where(np.isin(truth, tags), truth, "\0")
    with warnings.catch_warnings():  # the rare ones together may be fewer than the folds
        warnings.filterwarnings("ignore", "The least populated class")
        parts = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(vectors, rare))
    denied = {tag: np.zeros(len(no[tag])) for tag in tags}
    for number, (train, test) in enumerate(parts):
        kept = {tag: np.arange(len(no[tag])) % folds != number for tag in tags}
        seen = {tag: no[tag][kept[tag]] for tag in tags}
        out[test] = _scores(vectors[train], truth[train], vectors[test], tags, seen)
        for place, tag in enumerate(tags):
            asked = no[tag][~kept[tag]]
            if len(asked):
                denied[tag][~kept[tag]] = _scores(vectors[train], truth[train], asked, tags, seen)[:, place]
    return out, denied


def _scores(
    vectors: np.ndarray, truth: np.ndarray, asked: np.ndarray, tags: list[str], no: dict[str, np.ndarray]
) -> np.ndarray:
    """(M, T): probability of each tag against all others, each by itself, so that none may fit. no: of each tag what is
    not one, whatever else it is.
    """
    from sklearn.linear_model import LogisticRegression

    out = np.zeros((len(asked), len(tags)))
    if len(asked):
        for number, tag in enumerate(tags):
            model = LogisticRegression(C=0.1, class_weight="balanced", max_iter=500)
            learned = np.concatenate([vectors, no[tag]])
            mine = np.concatenate([truth == tag, np.zeros(len(no[tag]), bool)])
            out[:, number] = model.fit(learned, mine).predict_proba(asked)[:, 1]
    return out


def write_tags(library: Library, tags: dict[str, list[str]]) -> int:
    """Keep tags beside the shapes, in a column `tags` of the library, replacing those of the named shapes."""
    import pyarrow as pa

    from crosshape.library.library import lance_words, writing

    with writing(library.path):
        if "tags" not in library.dataset.schema.names:
            with lance_words(library.path, "write"):
                library.dataset.add_columns(pa.field("tags", pa.list_(pa.string())))
            library.refresh()
        names = sorted(tags)
        column = pa.array([tags[name] for name in names], pa.list_(pa.string()))
        written = library.write_columns(names, {"tags": column})
    library.refresh()
    return written
