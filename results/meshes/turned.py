"""Retrieval by points where every shape faces a way of its own: python results/meshes/turned.py MODEL LIBRARY.lance

Each shape of the library is turned about the up axis by a random angle, by at most 180, 45 and 0 degrees (seed 0), and
asks all others, as in `crosshape evaluate MODEL retrieval-3d LIBRARY.lance --gallery all`.
"""

from __future__ import annotations

import sys

import numpy as np

from crosshape.console import print_table
from crosshape.library.library import open_library
from crosshape.networks.model import load_model
from crosshape.tasks.labelled import layout_of_library
from crosshape.tasks.retrieval import retrieve


def main() -> None:
    model, library = load_model(sys.argv[1]), open_library(sys.argv[2])
    points = np.asarray(library.training_arrays(32)[0][:, : model.point_count])
    labels = layout_of_library(library).labels
    rows = []
    for most in (180, 45, 0):
        angle = np.radians(np.random.default_rng(0).uniform(-most, most, len(points))).astype(np.float32)
        cos, sin, x, y = np.cos(angle)[:, None], np.sin(angle)[:, None], points[..., 0], points[..., 1]
        turned = np.stack([cos * x - sin * y, sin * x + cos * y, points[..., 2]], axis=2)
        found = retrieve(model.encode_points(turned), labels)
        rows.append([str(most), f"{found.mean_average_precision:.3f}", f"{found.nearest_neighbour:.3f}"])
    print_table(["turned by at most", "mAP", "nearest neighbour"], rows)


if __name__ == "__main__":
    main()
