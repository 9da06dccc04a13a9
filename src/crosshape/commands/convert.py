"""Turn a PyTorch checkpoint of somebody else into safetensors, the only weights crosshape opens.

  crosshape convert resnet18.pth resnet18.safetensors
  crosshape train parts.lance runs/parts --image-weights resnet18.safetensors

The checkpoint is opened with weights_only=True: a file that wants to run code is refused. Tensors are taken from
the file itself or from its "state_dict", "model" or "model_state_dict"; "module." before every name is dropped.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", metavar="FILE.pth", help="a checkpoint written by torch.save")
    parser.add_argument("weights", metavar="FILE.safetensors", help="the file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the file that is there")


def run(options: argparse.Namespace) -> int:
    from crosshape.errors import CrosshapeError, UsageError
    from crosshape.networks.weights import convert

    target = Path(options.weights)
    if target.suffix != ".safetensors":
        raise UsageError(f"{target} must end in .safetensors")
    if target.exists() and not options.overwrite:
        raise CrosshapeError(f"{target} is there already. Add --overwrite to replace it.")
    count, numbers = convert(Path(options.checkpoint), target)
    print(f"{target}: {count} tensors, {numbers:,} numbers")
    return 0
