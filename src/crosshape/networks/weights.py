"""Weights from elsewhere: checkpoints converted to safetensors, ResNet-18 weights with torchvision's names."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor

from crosshape.errors import CrosshapeError
from crosshape.files import write_whole
from crosshape.networks.images import ImageNetwork, from_colour

INSIDE = ("state_dict", "model_state_dict", "model")
"""Where checkpoints keep their tensors, if not at the top."""


def convert(checkpoint: Path, target: Path) -> tuple[int, int]:
    """Write the tensors of a torch checkpoint as safetensors; how many tensors and numbers.

    Opened with weights_only=True, so no code of the file runs. Raises CrosshapeError for a file that wants more
    than tensors, holds none, or is none.
    """
    from safetensors.torch import save

    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CrosshapeError(f"{checkpoint} is not there.") from None
    except pickle.UnpicklingError:
        raise CrosshapeError(
            f"{checkpoint} is no checkpoint, or holds more than tensors and could run code; it was not opened. "
            "Ask its author for safetensors, or for a plain state_dict."
        ) from None
    except (RuntimeError, EOFError, ValueError, OSError, KeyError, AttributeError, TypeError) as error:
        why = str(error).strip() or type(error).__name__
        raise CrosshapeError(f"{checkpoint} is not a torch checkpoint: {why.splitlines()[0]}") from None
    for name in INSIDE:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
    if not isinstance(content, dict):
        content = {}
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CrosshapeError(f"{checkpoint} holds no named tensors.")
    if all(name.startswith("module.") for name in tensors):
        tensors = {name.removeprefix("module."): value for name, value in tensors.items()}
    whole = {name: value.detach().clone().contiguous() for name, value in tensors.items()}
    write_whole(target, save(whole))
    return len(whole), sum(value.numel() for value in whole.values())


def load_image_weights(network: ImageNetwork, path: Path) -> None:
    """Load ResNet-18 weights with torchvision's names (colour or grey, fc is left out) into the image network.

    Raises CrosshapeError for a file that is no safetensors, or whose names or shapes are not those of ResNet-18.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if path.suffix in (".pth", ".pt", ".ckpt", ".bin"):
        raise CrosshapeError(
            f"{path} is a torch checkpoint. Convert it first: crosshape convert {path} {path.stem}.safetensors"
        )
    try:
        weights = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise CrosshapeError(f"{path} cannot be read as safetensors: {error}.") from None
    if "conv1.weight" not in weights:
        raise CrosshapeError(f"{path} holds no 'conv1.weight': not the weights of a ResNet-18.")
    if not all(bool(value.isfinite().all()) for value in weights.values() if value.is_floating_point()):
        raise CrosshapeError(f"{path} holds numbers that are not finite.")
    try:
        network.load_state_dict(from_colour(weights))
    except RuntimeError as error:
        reason = " ".join(str(error).split("\n", 2)[1:2]).strip()
        reason = reason if len(reason) <= 200 else f"{reason[:200]} ..."
        raise CrosshapeError(f"{path} does not fit ResNet-18: {reason}") from None
