"""Find the shapes of a library that are most like a shape file, a picture, or a shape of the library.

    crosshape search parts.lance bracket.stl --top 5
    crosshape search parts.lance photo.jpg --html hits.html
    crosshape search parts.lance lids/round.obj --over points --folder lids --faces 100:5000

The score is a cosine: 1 is the same to the model, 0 has nothing in common. A file is prepared exactly as the
shapes of the library were, and read by the model that embedded it. In a picture (PNG, JPEG, WebP) the object
should stand on a plain ground. Several queries at once are answered by their mean score. Shapes that are not embedded
yet are left out; that is said, and the exit status is 1.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from crosshape.library.library import Library
    from crosshape.search.pages import Card
    from crosshape.search.query import Answer


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("library", metavar="LIBRARY", help="an embedded library")
    parser.add_argument(
        "query",
        metavar="QUERY",
        nargs="+",
        help="a shape file, a picture, or the name of a shape in the library",
    )
    parser.add_argument("--top", type=int, default=10, metavar="K", help="hits shown (default: 10)")
    parser.add_argument(
        "--over",
        choices=("points", "views", "both"),
        default="both",
        help="what is compared (default: both)",
    )
    parser.add_argument(
        "--min-size", type=float, metavar="X", help="largest extent at least, in the files' units"
    )
    parser.add_argument("--max-size", type=float, metavar="X", help="largest extent at most")
    parser.add_argument("--faces", metavar="MIN:MAX", help="number of faces, as in 100:5000, 100: or :5000")
    parser.add_argument("--format", metavar="F", help="only these formats, as in stl or stl,obj")
    parser.add_argument("--folder", metavar="NAME", help="only shapes below this folder of the library")
    parser.add_argument("--tag", metavar="TAG", help="only shapes with this tag")
    parser.add_argument(
        "--model", metavar="RUN", help="the run that embedded the library, where it was moved"
    )
    parser.add_argument("--html", metavar="FILE", help="write a page of the hits with pictures, in one file")
    parser.add_argument("--json", action="store_true", help="a line for each hit: rank, score, name, path")


def run(options: argparse.Namespace) -> int:
    from pathlib import Path

    from crosshape.console import print_json, print_table, say
    from crosshape.files import PAGES, check_output
    from crosshape.library.library import open_library
    from crosshape.search.query import Where, ask

    faces = _faces(options.faces)
    where = Where(
        options.min_size,
        options.max_size,
        *faces,
        tuple(part.strip().lower().lstrip(".") for part in (options.format or "").split(",") if part.strip()),
        options.folder,
        options.tag,
    )
    if options.html:
        check_output(options.html, PAGES)
    library = open_library(options.library)
    is_file = any(Path(query).is_file() for query in options.query)
    answer = ask(
        library,
        options.query,
        top=options.top,
        over=options.over,
        where=where,
        model=options.model,
        calibrate=is_file,
    )
    for line in _words(answer):
        say(line)
    if options.html:
        write_hits(options.html, library, options.query, answer)
    if options.json:
        for hit in answer.hits:
            print_json(vars(hit))
    else:
        rows = [[hit.rank, hit.score, hit.name] for hit in answer.hits]
        print_table(["rank", "score", "name"], rows, names=["name"])
    return 1 if answer.left_out else 0


def write_hits(path: str, library: Library, queries: list[str], answer: Answer) -> None:
    """A page of the hits, with what was asked."""
    from crosshape.search.pages import Card, Row, library_pictures, write_page

    pictures = library_pictures(library, [hit.name for hit in answer.hits])
    cards = [Card(pictures[hit.name], hit.name, (f"{hit.rank}.  {hit.score:.3f}",)) for hit in answer.hits]
    rows = [Row("Hits", cards)]
    asked = _asked(library, queries)
    if asked:
        rows.insert(0, Row("Asked for, as the model sees it", asked))
    write_page(path, f"Like {', '.join(queries)}", " ".join(_words(answer)) or str(library.path), rows)


def _asked(library: Library, queries: list[str]) -> list[Card]:
    """Cards of the queries: a view of a shape, or the cleaned picture."""
    from pathlib import Path

    import numpy as np

    from crosshape.search.pages import FRONTAL, Card, data_uri, library_pictures
    from crosshape.search.query import prepare_query

    cards: list[Card] = []
    for query in queries:
        if Path(query).exists():
            seen = prepare_query(Path(query), library)
            picture = seen if isinstance(seen, np.ndarray) else seen.views[FRONTAL % len(seen.views)]
            cards.append(Card(data_uri(picture), query))
        else:
            cards.append(Card(library_pictures(library, [query])[query], query))
    return cards


def _words(answer: Answer) -> list[str]:
    """What is to be said beside the hits."""
    lines = [answer.note] if answer.note else []
    if answer.nothing_like_this and answer.usual:
        lines.append(
            f"Nothing like this here: the best score is {answer.hits[0].score:.3f}; of the library's own shapes "
            f"99 % score {answer.usual.low:.3f} or more against another one."
        )
    elif answer.unlike and answer.usual and answer.likest is not None:
        lines.append(
            f"Nothing like this has these facts: the best score is {answer.hits[0].score:.3f}. Without them it is "
            f"{answer.likest:.3f}; of the library's own shapes 99 % score {answer.usual.low:.3f} or more against "
            "another one."
        )
    elif answer.usual and answer.hits:
        lines.append(
            f"Usual here: the library's own shapes score {answer.usual.middle:.3f} (middle) against the one most "
            f"like them, 99 % of them {answer.usual.low:.3f} or more."
        )
    return lines


def _faces(text: str | None) -> tuple[int | None, int | None]:
    from crosshape.errors import UsageError

    if text is None:
        return None, None
    low, sign, high = text.partition(":")
    try:
        if not sign:
            raise ValueError
        return (int(low) if low.strip() else None), (int(high) if high.strip() else None)
    except ValueError:
        raise UsageError(f"--faces is '{text}'; write MIN:MAX, as in 100:5000, 100: or :5000") from None
