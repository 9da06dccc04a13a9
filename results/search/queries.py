"""Ten shapes and ten photographs ask a library, and the pictures of what came back: an HTML page and a PNG sheet.

    python results/search/queries.py meshes.lance PHOTOS FOLDER [RUN]

Shapes: one of each of ten classes, drawn with a fixed seed among classes of 8 shapes or more. Photographs: the first
ten whose class the library has (CLASSES of photos.py). FOLDER gets queries.html and queries.png; they show other
people's pictures, so they do not belong in the repository. Prints how many of the five hits are of a right class.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
from photos import CLASSES
from PIL import Image, ImageDraw

from crosshape.console import print_table
from crosshape.library.library import Library, open_library
from crosshape.search.pages import FRONTAL, Card, Row, data_uri, write_page
from crosshape.search.query import ask, gallery, library_model, prepare_query

TOP, SIDE, TEXT = 5, 128, 16


def main() -> None:
    library, folder = open_library(sys.argv[1]), Path(sys.argv[3])
    model = library_model(library, gallery(library).model, sys.argv[4] if len(sys.argv) > 4 else None)
    asked = [(name, {label}) for name, label in shapes(library)]
    asked += [(str(path), right) for path, right in photos(library, Path(sys.argv[2]))]
    rows, table, sheet = [], [], []
    for query, right in asked:
        answer = ask(library, query, top=TOP, model=model, calibrate=Path(query).is_file())
        labels = [hit.name.split("/")[0] for hit in answer.hits]
        good = [label in right for label in labels]
        said = "nothing like this" if answer.nothing_like_this else ""
        table.append([Path(query).name, " ".join(sorted(right)), sum(good), good[0], labels[0], said])
        pictures = [seen(library, query), *(seen(library, hit.name) for hit in answer.hits)]
        words = [
            Path(query).name,
            *(f"{h.score:.2f} {label}" for h, label in zip(answer.hits, labels, strict=True)),
        ]
        sheet.append((pictures, words, [None, *good]))
        cards = [Card(data_uri(picture), word) for picture, word in zip(pictures, words, strict=True)]
        rows.append(Row(Path(query).name, cards, said))
    print_table(["query", "right classes", "right of five", "first", "first hit", "said"], table)
    for what, part in (("shapes", table[:10]), ("photographs", table[10:])):
        first, five = np.mean([row[3] for row in part]), np.mean([row[2] for row in part]) / TOP
        print(f"{what}: right first {first:.2f}, right of the first five {five:.2f}")
    folder.mkdir(parents=True, exist_ok=True)
    write_page(folder / "queries.html", "Ten shapes and ten photographs", str(library.path), rows)
    draw(sheet).save(folder / "queries.png")


def shapes(library: Library) -> list[tuple[str, str]]:
    """(name, class) of ten shapes of ten classes."""
    labels = library.labels()
    assert labels is not None
    random = np.random.default_rng(0)
    classes = sorted(label for label, count in Counter(labels).items() if count >= 8)
    chosen = sorted(random.choice(classes, 10, replace=False))
    rows = [int(random.choice(np.flatnonzero(np.array(labels) == label))) for label in chosen]
    return [(library.names[row], str(label)) for row, label in zip(rows, chosen, strict=True)]


def photos(library: Library, folder: Path) -> list[tuple[Path, set[str]]]:
    """Ten photographs, of ten lines of CLASSES, and the classes that are right for them."""
    there, found = set(library.labels() or ()), []
    files = {path.stem: path for path in sorted(folder.iterdir())}
    for stems, classes in CLASSES.items():
        stem = next((stem for stem in stems.split() if stem in files), None)
        if stem is not None and there & set(classes.split()):
            found.append((files[stem], set(classes.split())))
    return found[:: max(1, len(found) // 10)][:10]


def seen(library: Library, query: str) -> np.ndarray:
    """(S, S) uint8: a view of a shape, or a picture as the model sees it."""
    if not Path(query).is_file():
        return library.views([query])[0, FRONTAL]
    picture = prepare_query(Path(query), library)
    assert isinstance(picture, np.ndarray)
    return picture


def draw(sheet: list[tuple[list[np.ndarray], list[str], list[bool | None]]]) -> Image.Image:
    """A line for each query; right hits are underlined in green, wrong ones in red."""
    wide, high = (TOP + 1) * (SIDE + 8) + 16, len(sheet) * (SIDE + TEXT + 8)
    out = Image.new("RGB", (wide, high), "white")
    pen = ImageDraw.Draw(out)
    for line, (pictures, words, good) in enumerate(sheet):
        for column, (picture, word, right) in enumerate(zip(pictures, words, good, strict=True)):
            x, y = column * (SIDE + 8) + (16 if column else 0), line * (SIDE + TEXT + 8)
            out.paste(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX), (x, y))
            colour = {None: "black", True: "#1b8a57", False: "#c93a52"}[right]
            pen.text((x + 2, y + SIDE), word[:22], fill=colour)
            pen.rectangle((x, y + SIDE + 13, x + SIDE, y + SIDE + 14), fill=colour)
    return out


if __name__ == "__main__":
    main()
