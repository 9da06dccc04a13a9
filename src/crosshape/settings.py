"""Every setting: its default, its unit and its help line. The recipes are named constants.

A setting that was not stated in the abstract of arXiv 2004.05749 carries its source in its help line:
"second-hand" means read in a public re-implementation or in the authors' later code.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field, replace
from typing import Any

from crosshape.errors import UsageError

FEATURES = 512
"""How many numbers describe a picture or a cloud."""


def setting(default: Any, help: str, unit: str = "") -> Any:
    """A dataclass field with its default, help line and unit."""
    return field(default=default, metadata={"help": help, "unit": unit})


@dataclass(frozen=True)
class Limits:
    """What a file may cost before it is skipped."""

    max_bytes: int = setting(1 << 30, "largest file that is opened", "bytes")
    max_faces: int = setting(10_000_000, "most faces a mesh may have", "faces")
    max_vertices: int = setting(20_000_000, "most vertices or points a shape may have", "vertices")
    memory: int = setting(4 << 30, "memory one worker may take on top of what it needs idle", "bytes")
    seconds: float = setting(
        120.0, "time one file may take, both by the clock and of the processor", "seconds"
    )


@dataclass(frozen=True)
class PrepareSettings:
    """How a shape becomes arrays; fixed when a library is made."""

    points: int = setting(2048, "points sampled on the surface", "points")
    views: int = setting(12, "cameras on a ring around the up axis, 30 degrees above the horizon", "views")
    image_size: int = setting(224, "width and height of a view", "pixels")
    supersample: int = setting(2, "rays per pixel along each side", "")
    up: str = setting("auto", "the axis that points up in the files: auto (Y for glTF, else Z), x, y or z")


@dataclass(frozen=True)
class NetworkSettings:
    """The shape of the three networks."""

    k: int = setting(20, "neighbours of a point in EdgeConv (second-hand)", "points")
    edge_widths: tuple[int, ...] = setting(
        (64, 64, 128, 256), "channels of the EdgeConv layers (second-hand)"
    )
    point_width: int = setting(1024, "channels after the 1x1 convolution, before pooling (second-hand)")
    image_width: int = setting(64, "channels of the first ResNet-18 stage")
    hidden: int = setting(256, "hidden units of the correspondence network (second-hand)")
    graph: str = setting(
        "features",
        "features: neighbours are sought anew among the features of every layer (DGCNN); space: once, among "
        "the points (linear in their number, so far faster for large clouds)",
    )


@dataclass(frozen=True)
class TrainSettings:
    """How the three networks learn."""

    recipe: str = setting("paper", "the name of the recipe these settings started from")
    epochs: int = setting(100, "passes over the library", "epochs")
    batch_size: int = setting(32, "shapes in a step (second-hand)", "shapes")
    points: int = setting(
        1024, "points drawn from the sampled ones in each step (authors' later code)", "points"
    )
    encoding_points: int = setting(
        0,
        "points of a cloud in encoding, once trained, with BatchNorm statistics gathered from such clouds and "
        "unchanged views; 0: as many as in a step, statistics as training left them",
        "points",
    )
    image_size: int = setting(112, "width and height of the pictures the network sees", "pixels")
    optimiser: str = setting("sgd", "sgd (momentum 0.9) or adamw")
    learning_rate: float = setting(1e-3, "step size at the start (second-hand)")
    weight_decay: float = setting(5e-4, "pull of the weights towards zero (second-hand)")
    schedule: str = setting(
        "steps", "steps: down by 10 at 50 % and 75 % of the steps (second-hand); cosine: warm-up, then to 0"
    )
    clip: float = setting(10.0, "largest norm of the gradient; 0 leaves it alone")
    cross_view: str = setting(
        "triplet", "triplet, softmax or none: how views of one object are drawn together"
    )
    cross_view_weight: float = setting(1.0, "weight of the cross-view loss (second-hand)")
    margin: float = setting(2.0, "margin of the triplet loss (second-hand)")
    cross_modality: str = setting(
        "pairs", "pairs (three a shape), all-pairs (every picture with every cloud of the batch) or none"
    )
    cross_modality_weight: float = setting(3.0, "weight of the cross-modality loss (second-hand)")
    cross_cloud_weight: float = setting(
        0.0, "weight of the agreement between two augmentations of a cloud; 0 is off"
    )
    cosine_weight: float = setting(
        0.0, "weight of the picture-cloud agreement by cosine, beside the correspondence network; 0 is off"
    )
    alike: int = setting(
        0,
        "shapes most like each one, as the model sees them that training starts from (--from), that count as the "
        "same object in part; 0 is off",
        "shapes",
    )
    alike_weight: float = setting(0.5, "how much such a shape counts, beside 1 for the object itself")
    reconstruction_weight: float = setting(
        0.0,
        "weight of telling, from each picture and from each cloud, which cells of a coarse grid its object fills; "
        "0 is off",
    )
    temperature: float = setting(0.1, "temperature of the softmax losses")
    projection: int = setting(
        0, "width of the heads between features and softmax losses, thrown away afterwards; 0 is none"
    )
    augmentation: str = setting("paper", "paper or strong: changes to clouds and pictures")
    crop: float = setting(
        0.0,
        "smallest share of its width that a crop of a picture keeps; 0: 0.8, with the augmentation strong 0.6",
    )
    turn: float = setting(
        180.0,
        "largest turn of a cloud about the up axis, either way; less where shapes of a kind face the same way",
        "degrees",
    )
    clutter: float = setting(
        0.0, "share of the pictures that get made textures and grounds, to be more like photographs"
    )
    held_out: float = setting(
        0.05, "share of 100 or more shapes kept from training, for the verdict at its end"
    )
    seed: int = setting(0, "seed of weights, order and augmentation")


RECIPES: dict[str, TrainSettings] = {
    "paper": TrainSettings(),
    "dense": TrainSettings(
        recipe="dense",
        epochs=60,
        batch_size=64,
        points=512,
        encoding_points=1024,
        image_size=64,
        optimiser="adamw",
        weight_decay=0.05,
        schedule="cosine",
        cross_view="softmax",
        cross_modality="all-pairs",
        cross_modality_weight=1.0,
        cross_cloud_weight=1.0,
        cosine_weight=1.0,
        reconstruction_weight=10.0,
        projection=256,
    ),
}
RECIPES["further"] = dataclasses.replace(
    RECIPES["dense"],
    recipe="further",
    epochs=20,
    image_size=112,
    learning_rate=5e-4,
    temperature=0.2,
    reconstruction_weight=30.0,
    alike=8,
    alike_weight=1.0,
)


def usual_recipe(initial: object) -> str:
    """The recipe if none is named: `further` from a model to start from, `dense` from random weights."""
    return "further" if initial else "dense"


def changed(settings: Any, values: dict[str, Any], where: str = "settings") -> Any:
    """The same settings with some values replaced; an unknown name is an error that offers the nearest one.

    Raises UsageError for an unknown name or a value of another type than the default's.
    """
    known = {f.name: f for f in dataclasses.fields(settings)}
    clean: dict[str, Any] = {}
    for name, value in values.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known are {', '.join(known)}"
            raise UsageError(f"unknown setting '{name}' in {where}{hint}")
        default = getattr(settings, name)
        if isinstance(default, tuple) and isinstance(value, list | tuple):
            value = tuple(value)
        elif isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if type(value) is not type(default):
            kind = type(default).__name__
            raise UsageError(
                f"setting '{name}' in {where} is {value!r}; it must be of type {kind}, as in {default!r}"
            )
        clean[name] = value
    return replace(settings, **clean)
