"""Learn features of the shapes of a library, with no labels, into a run folder.

crosshape train parts.lance runs/parts
crosshape train parts.lance runs/parts --minutes 20
crosshape train parts.lance runs/parts --resume
crosshape train parts.lance runs/paper --recipe paper --set batch_size=16
crosshape train parts.lance runs/more --from modelnet40
torchrun --nproc-per-node 4 -m crosshape train parts.lance runs/parts    four GPUs, or four processes
"""

from __future__ import annotations

import argparse
import ast
import dataclasses
from typing import Any

from crosshape.errors import UsageError, command
from crosshape.settings import RECIPES, NetworkSettings, TrainSettings, changed, usual_recipe

SIZES = ("epochs", "minutes", "batch_size", "points", "image_size", "seed")
"""Options that are settings, and how long."""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("library", metavar="LIBRARY", help="made by `crosshape add`")
    parser.add_argument("run", metavar="RUN", help="the folder to write: settings, weights, log, card")
    parser.add_argument("--recipe", choices=list(RECIPES), help="default: dense, with --from further")
    parser.add_argument("--epochs", type=int, metavar="N", help="passes over the library")
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="M",
        help="as many epochs as fit in M minutes; the verdict comes on top",
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="shapes in a step")
    parser.add_argument("--points", type=int, metavar="N", help="points of a cloud in a step")
    parser.add_argument("--image-size", type=int, metavar="N", help="pixels along the side of a view")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of weights, order and augmentation")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any other setting of networks or training (below), several times if need be",
    )
    parser.add_argument("--from", dest="initial", metavar="RUN", help="start from a run, or modelnet40")
    parser.add_argument(
        "--image-weights", metavar="FILE", help="ResNet-18 weights to start from, safetensors"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:1 (default: auto)")
    parser.add_argument("--threads", type=int, metavar="N", help="processor threads (default: all cores)")
    parser.add_argument("--resume", action="store_true", help="go on with the run that is there")
    parser.add_argument("--overwrite", action="store_true", help="replace the run that is there")
    parser.epilog = "settings for --set:\n" + "\n".join(
        f"  {field.name:<24}{field.metadata['help']} ({_default(field)})"
        for kind in (TrainSettings, NetworkSettings)
        for field in dataclasses.fields(kind)
        if field.name != "recipe"
    )


def _default(field: dataclasses.Field[Any]) -> str:
    """What a setting is if nothing is said, in each recipe where they differ, and its unit."""
    unit = f" {field.metadata['unit']}" if field.metadata["unit"] else ""
    each = {name: getattr(recipe, field.name, field.default) for name, recipe in RECIPES.items()}
    if len(set(each.values())) == 1:
        return f"default: {field.default}{unit}"
    return ", ".join(f"{name}: {each[name]}" for name in sorted(each)) + unit


def run(options: argparse.Namespace) -> int:
    training, network = chosen(options)
    given = [f"--{name.replace('_', '-')}" for name in SIZES if getattr(options, name) is not None]
    given += [f"--{name}" for name in ("recipe", "threads") if getattr(options, name) is not None]
    given += ["--image-weights"] * bool(options.image_weights)
    given += ["--set"] * bool(options.set) + ["--from"] * bool(options.initial)
    if options.resume and given:
        raise UsageError(f"--resume goes on with the settings of the run; leave {', '.join(given)} out")
    if options.epochs is not None and options.minutes is not None:
        raise UsageError("--minutes sets the number of epochs; give --epochs or --minutes")
    if options.minutes is not None and not 0 < options.minutes < 1e6:
        raise UsageError(f"--minutes is {options.minutes}; it must be above 0")
    import signal

    import torch

    from crosshape.learning.training import train
    from crosshape.learning.workers import speaks

    signal.signal(signal.SIGTERM, signal.default_int_handler)

    if options.threads is not None:
        if not 1 <= options.threads <= 1024:
            raise UsageError(f"--threads is {options.threads}; it must be 1 to 1024")
        torch.set_num_threads(options.threads)
    train(
        options.library,
        options.run,
        recipe=options.recipe,
        settings=training,
        network=network,
        initial=options.initial,
        image_weights=options.image_weights,
        device=options.device,
        minutes=options.minutes,
        resume=options.resume,
        overwrite=options.overwrite,
    )
    if speaks():
        print(f"{options.run} is trained. Next: {command('embed', options.run, options.library)}")
    return 0


def chosen(options: argparse.Namespace) -> tuple[TrainSettings, NetworkSettings | None]:
    """The recipe's settings with what the words changed. Raises UsageError for unknown names and values."""
    training: dict[str, Any] = {}
    network: dict[str, Any] = {}
    for text in options.set:
        name, sign, value = text.partition("=")
        if name == "recipe":
            raise UsageError(f"--set {text}: name the recipe with --recipe")
        if not sign:
            raise UsageError(f"--set {text}: write NAME=VALUE, as in --set batch_size=16")
        try:
            parsed = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            parsed = value
        is_network = any(field.name == name for field in dataclasses.fields(NetworkSettings))
        (network if is_network else training)[name] = parsed
    for name in ("epochs", "batch_size", "points", "image_size", "seed"):
        if getattr(options, name) is not None:
            training[name] = getattr(options, name)
    recipe = options.recipe or usual_recipe(options.initial)
    settings = changed(RECIPES[recipe], training, "--set")
    return settings, changed(NetworkSettings(), network, "--set") if network else None
