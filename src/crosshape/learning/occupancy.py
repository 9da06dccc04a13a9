"""What a picture or a cloud is asked to tell of its object: how full each cell of a coarse grid around it is.

Two objects of one kind fill much the same cells, whatever the single object is: a target that groups by shape where
contrast alone only tells apart. Networks that learn to rebuild a shape from one picture recognise and look up more
than they rebuild (Tatarchenko et al., arXiv 1905.03678); here that is made use of.
"""

from __future__ import annotations

import torch
from torch import Tensor

POINTS = 1024
"""Points of a cloud that are looked at, at most: its first ones."""
CELLS = 12
"""Cells along each side of the grid, which spans -1 to 1."""
WIDTH = 0.1
"""Standard deviation of the bell around each point, in radii of the unit sphere."""
FILL = 200.0
"""How much density fills a cell: with the mean over points, a surface of the usual area comes to about 0.9."""


def occupancy(points: Tensor) -> Tensor:
    """Clouds (B, P, 3) in the unit sphere -> how full each cell is (B, CELLS^3), 0 to 1, x slowest.

    1 - exp(-FILL * the mean over the points of exp(-distance^2 / (2 WIDTH^2)) at the middle of the cell). A bell in
    three dimensions is the product of three in one, so this is one matrix product.
    """
    points = points[:, :POINTS]
    middles = (torch.arange(CELLS, device=points.device, dtype=points.dtype) + 0.5) * (2 / CELLS) - 1
    bells = torch.exp((points[..., None] - middles).square() / (-2 * WIDTH**2))
    x, y, z = bells.unbind(2)
    yz = (y[:, :, :, None] * z[:, :, None, :]).flatten(2)
    density = (x.transpose(1, 2) @ yz).flatten(1) / points.shape[1]
    return 1 - torch.exp(-FILL * density)
