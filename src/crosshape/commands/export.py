"""A model for other programs: ONNX files that run without crosshape or PyTorch, its safetensors, a page about them.

  crosshape export runs/parts parts-model
  crosshape export modelnet40 modelnet40-onnx

FOLDER holds points.onnx (clouds to features), images.onnx (views to features), correspondence.onnx (do this view and
this cloud show the same object?), model.safetensors and card.json (so crosshape reads it as a run), and README.md,
which says what goes in, with an example, and can be uploaded to a model hub as it is. Every ONNX file is run beside
the model before anything is written. Needs: pip install onnx onnxscript onnxruntime.
"""

from __future__ import annotations

import argparse


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="RUN", help="a run, or the name of a model that comes with crosshape"
    )
    parser.add_argument("folder", metavar="FOLDER", help="the folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the export that is there")
    parser.add_argument("--json", action="store_true", help="one object: folder, model, difference")


def run(options: argparse.Namespace) -> int:
    import signal

    from crosshape.console import print_json, printable
    from crosshape.networks.export import export_model
    from crosshape.networks.model import load_model

    model = load_model(options.model, "cpu")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    difference = export_model(model, options.folder, overwrite=options.overwrite)
    if options.json:
        print_json({"folder": options.folder, "model": model.fingerprint, "difference": difference})
        return 0
    folder = printable(options.folder)
    for name, value in difference.items():
        print(f"{folder}/{name}: as the model, to {value:.0e} of what changes from shape to shape")
    print(f"{folder}/README.md says how to use them.")
    return 0
