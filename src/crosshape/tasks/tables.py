"""Rows into what is read: tables on the terminal, Markdown, LaTeX, and what others published."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from crosshape.tasks.evaluation import Row, kind_of

if TYPE_CHECKING:
    from crosshape.shapes.layouts import Layout

HEADS = {
    "accuracy": "accuracy",
    "mean_class_accuracy": "class mean",
    "mean_average_precision": "mAP",
    "nearest_neighbour": "NN",
    "first_tier": "tier 1",
    "second_tier": "tier 2",
    "ndcg": "NDCG",
    "own_first": "own 1st",
    "own_in_ten": "own in 10",
    "instance_miou": "instance mIoU",
    "class_miou": "class mIoU",
}

NOTES = {
    "recognition": "Linear SVM (squared hinge, one against the rest), features standardised by the training shapes;\n"
    "C from {grid} by accuracy in five-fold cross-validation\n"
    "of the training shapes; points: the 512 features and the numbers pooled before the network's last layer,\n"
    "views: the largest and the mean of each number, each part at length 1 (--layer features: the features and\n"
    "the largest alone); 95 %: bootstrap over test shapes.",
    "retrieval": "Every test shape (gallery all: every shape) asks all others by cosine, ties by name; views\n"
    "max-pooled; mAP over the full list; tiers are recalls; 95 %: bootstrap over the shapes that ask.",
    "retrieval-cross": "The pictures of a test shape ask the clouds of all others, or the other way about; right is\n"
    "the same class; own 1st, own in 10: where its own other half comes if that is left in.",
    "few-shot": "10 episodes a seed, up to 20 queries a class from the test shapes; linear SVM, C = 0.01,\n"
    "features as in recognition, standardised by all training shapes; std over episodes.",
    "segmentation": "Per-point features and a small head; instance and class mean IoU as on ShapeNet-Part;\n"
    "labels: how many training shapes had their parts labelled; 95 %: bootstrap over test shapes.",
}
"""The protocol, printed under each table."""


MODELNET40 = (
    ("CMCV", "DGCNN", 89.8),
    ("OcCo", "DGCNN", 89.2),
    ("Jigsaw", "DGCNN", 90.6),
    ("STRL", "DGCNN", 90.9),
    ("CrossPoint (users: 90.3, 89.7)", "DGCNN", 91.2),
    ("CrossNet", "DGCNN", 91.5),
    ("PoCCA", "DGCNN", 91.7),
    ("IAE", "DGCNN", 92.1),
    ("Point-MAE", "transformer", 91.0),
    ("Point-M2AE", "transformer", 92.9),
    ("I2P-MAE (with CLIP)", "transformer", 93.35),
    ("ReCon (with CLIP and text)", "transformer", 93.4),
)
"""Published accuracies on the official test split, in percent; most were trained on ShapeNet."""

SHAPENET_PART = (
    ("CMCV", "frozen", 80.8),
    ("CMCV", "fine-tuned", 83.7),
    ("CrossPoint", "", 85.5),
    ("Point-MAE", "", 86.1),
    ("MaskClu", "", 87.4),
)
"""Published instance mIoU on the official test split, in percent."""


def tables(rows: Iterable[Row]) -> list[tuple[str, list[str], list[list[Any]]]]:
    """Rows -> (title, head, cells) a task, in the order they came; columns that say nothing are left out."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(kind_of(row.task), []).append(row)
    return [(kind, *_table(group)) for kind, group in groups.items()]


def _table(rows: Sequence[Row]) -> tuple[list[str], list[list[Any]]]:
    measures = [key for key in HEADS if any(key in row.measures for row in rows)]
    more = [
        key
        for key in ("ways", "shots", "ask", "by", "gallery", "labels", "head")
        if any(key in r.more for r in rows)
    ]
    columns: list[tuple[str, list[Any]]] = [
        ("features", [row.features for row in rows]),
        ("views", [row.views for row in rows]),
        *((key, [row.more.get(key) for row in rows]) for key in more),
        ("model", [row.model for row in rows]),
        ("protocol", [row.protocol for row in rows]),
    ]
    columns += [(HEADS[key], [row.measures.get(key) for row in rows]) for key in measures]
    headline = HEADS[next(iter(rows[0].measures))] if rows[0].measures else "value"
    columns += [
        ("95 %", [f"{r.interval[0]:.3f} to {r.interval[1]:.3f}" if r.interval else None for r in rows]),
        (f"std {headline}", [next(iter(row.stds.values()), None) for row in rows]),
        ("seeds", [row.seeds for row in rows]),
    ]
    columns = [c for c in columns if any(value is not None for value in c[1])]
    plain = {"protocol": {"default"}, "gallery": {"test"}}
    columns = [c for c in columns if set(c[1]) != plain.get(c[0], set())]
    heads = [head for head, _ in columns]
    return heads, [[values[i] for _, values in columns] for i in range(len(rows))]


def note(kind: str) -> str:
    """The protocol of a table; "" for one that says it itself."""
    from crosshape.tasks.recognition import GRID

    return NOTES.get(kind, "").replace("{grid}", " ".join(f"{C:g}" for C in GRID))


def markdown(rows: Iterable[Row]) -> str:
    """The tables with their protocols as Markdown."""
    parts = []
    for kind, head, cells in tables(rows):
        lines = [f"### {kind}", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join(word(cell).replace("|", "\\|") for cell in row) + " |" for row in cells]
        parts.append("\n".join([*lines, "", note(kind)]).rstrip())
    return "\n\n".join(parts) + "\n"


def latex(rows: Iterable[Row]) -> str:
    """The tables as LaTeX (booktabs), each with its protocol as caption."""
    parts = []
    for kind, head, cells in tables(rows):
        body = [" & ".join(_tex(word(cell)) for cell in row) + r" \\" for row in [head, *cells]]
        lines = [r"\begin{table}", r"\begin{tabular}{" + "l" * len(head) + "}", r"\toprule", body[0]]
        lines += [r"\midrule", *body[1:], r"\bottomrule", r"\end{tabular}"]
        lines += [rf"\caption{{{_tex(kind)}. {_tex(note(kind))}}}", r"\end{table}"]
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def _tex(text: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", text.replace("\\", r"\textbackslash "))


PUBLISHED = "published, other data or renderings may apply"
"""What stands over figures of others."""


def published(layout: Layout) -> tuple[tuple[str, str, str], tuple[tuple[str, str, float], ...]] | None:
    """Figures of papers on this data as (head, rows), in percent; None where none are known."""
    if layout.name.startswith("modelnet") and len(layout.classes) == 40:
        return ("linear SVM on point features", "network", "accuracy, %"), MODELNET40
    if layout.name.startswith("shapenet-part"):
        return ("method", "head", "instance mIoU, %"), SHAPENET_PART
    return None


def published_markdown(layout: Layout) -> str:
    """The same as Markdown; "" where none are known."""
    known = published(layout)
    if known is None:
        return ""
    head, rows = known
    lines = [f"| {' | '.join(head)} |", "|---|---|---|", *(f"| {' | '.join(map(str, r))} |" for r in rows)]
    return "\n".join([f"### {PUBLISHED}", "", *lines]) + "\n"


def word(cell: Any) -> str:
    """A cell as text: shares with three digits, nothing for None."""
    return "" if cell is None else f"{cell:.3f}" if isinstance(cell, float) else str(cell)
