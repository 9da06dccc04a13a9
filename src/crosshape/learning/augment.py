"""Batched changes to clouds and views, on the device of the batch, from an explicit generator.

`paper` follows the authors' later code: for clouds a random choice of points, scale 2/3 to 3/2 and shift up
to 0.2 per axis, a turn about the up axis (all the way round, or less), jitter sigma 0.01 clipped at 0.02; for
views a random crop and a horizontal flip. `strong` also cuts a part of the cloud away, tilts it, and changes the
light of the views; `rigid` leaves the size and place of a cloud alone. `clutter` makes views look more like
photographs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from crosshape.shapes.views import FRONT


def augment_points(
    points: Tensor, count: int, style: str, generator: torch.Generator, turn: float = 180.0
) -> Tensor:
    """Clouds (B, P, 3), Z up -> changed clouds (B, count, 3); `count` is at most P, `turn` the largest turn about Z in
    degrees, either way.
    """
    batch, available, _ = points.shape
    chance = _uniform(points, (batch, available), 0.0, 1.0, generator)
    if style == "strong":
        chance = chance + _beyond_cut(points, count, generator)
    chosen = chance.argsort(dim=1)[:, :count]
    out = points.gather(1, chosen[:, :, None].expand(-1, -1, 3))
    out = out @ _turns(points, style, generator, turn)
    if style == "rigid":
        return out + _jitter(out, generator)
    out = out * _uniform(points, (batch, 1, 3), 2 / 3, 3 / 2, generator)
    out = out + _jitter(out, generator)
    return out + _uniform(points, (batch, 1, 3), -0.2, 0.2, generator)


def _jitter(points: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(points.shape, generator=generator, device=points.device, dtype=points.dtype)
    return noise.mul_(0.01).clamp_(-0.02, 0.02)


def _beyond_cut(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """(B, P): 2 behind a random plane that cuts off up to 40 % (`count` points are left), else 0."""
    batch, available, _ = points.shape
    direction = torch.randn((batch, 3, 1), generator=generator, device=points.device, dtype=points.dtype)
    along = (points @ direction).squeeze(2)
    keep = (available * _uniform(points, (batch, 1), 0.6, 1.0, generator)).ceil().clamp_min(count)
    rank = along.argsort(dim=1).argsort(dim=1)
    return 2.0 * (rank >= keep)


def _turns(points: Tensor, style: str, generator: torch.Generator, largest: float) -> Tensor:
    """(B, 3, 3) rotations about the up axis by at most so many degrees; `strong` tilts by up to 10 as well."""
    largest = math.radians(largest)
    angle = _uniform(points, (len(points),), -largest, largest, generator)
    cos, sin, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    turn = torch.stack([cos, sin, zero, -sin, cos, zero, zero, zero, one], dim=1).view(-1, 3, 3)
    if style != "strong":
        return turn
    tilt = _uniform(points, (len(points),), -math.pi / 18, math.pi / 18, generator)
    cos, sin = tilt.cos(), tilt.sin()
    return turn @ torch.stack([one, zero, zero, zero, cos, sin, zero, -sin, cos], dim=1).view(-1, 3, 3)


def augment_views(
    views: Tensor, style: str, generator: torch.Generator, cluttered: float = 0.0, least: float = 0.0
) -> Tensor:
    """Views uint8 (B, S, S) -> changed views float32 (B, S, S) in 0..1, of the same size.

    A crop of 80 to 100 % of each side (strong: 60 to 100 %, and stretched by up to a quarter; `least` in their
    place where it is not 0), flipped half the time; strong also changes contrast and brightness. `cluttered`
    is the share that `clutter` changes.
    """
    batch = len(views)
    pictures = views.float().div(255)[:, None]
    least = least or (0.6 if style == "strong" else 0.8)
    width = _uniform(pictures, (batch,), least, 1.0, generator)
    stretch = _uniform(pictures, (batch,), 0.8, 1.25, generator) if style == "strong" else 1.0
    height = (width * stretch).clamp(max=1.0)
    x = _uniform(pictures, (batch,), -1.0, 1.0, generator) * (1 - width)
    y = _uniform(pictures, (batch,), -1.0, 1.0, generator) * (1 - height)
    flip = (_uniform(pictures, (batch,), 0.0, 1.0, generator) < 0.5) * 2.0 - 1.0
    zero = torch.zeros_like(x)
    crop = torch.stack([width * flip, zero, x, zero, height, y], dim=1).view(-1, 2, 3)
    grid = torch.nn.functional.affine_grid(crop, list(pictures.shape), align_corners=False)
    out = torch.nn.functional.grid_sample(pictures, grid, padding_mode="border", align_corners=False)[:, 0]
    if cluttered:
        out = clutter(out, cluttered, generator)
    if style == "strong":
        out = out.pow(_uniform(pictures, (batch, 1, 1), 0.7, 1.4, generator))
        out = out * _uniform(pictures, (batch, 1, 1), 0.8, 1.2, generator)
    return out.clamp(0, 1)


def clutter(pictures: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Pictures (B, S, S) in 0..1 on a white ground -> the same, a `share` of them more like photographs.

    The object gets another light (half the time its negative) and a made texture; behind it comes a made texture, or
    what stands in another picture, over all of it or, as where a photograph could not be cut out
    (search/pictures.py), within a frame. Domain randomisation: Tobin et al., arXiv 1703.06907.
    """
    batch, size = len(pictures), pictures.shape[1]

    def chance(low: float, high: float) -> Tensor:
        return _uniform(pictures, (batch, 1, 1), low, high, generator)

    object_ = ((1 - pictures) / (1 - FRONT / 255)).clamp(0, 1)
    tone = (pictures * (255 / FRONT)).clamp(0, 1).pow(chance(0.4, 2.0))
    tone = torch.where(chance(0, 1) < 0.5, 1 - tone, tone)
    tone = tone * (1 + chance(0, 0.5) * _texture(batch, size, generator, pictures))
    dark = chance(0, 0.6)
    tone = dark + (chance(0.4, 1) - dark) * tone
    ground = chance(0, 1) + chance(0, 0.5) * _texture(batch, size, generator, pictures)
    ground = torch.where(chance(0, 1) < 0.3, tone.roll(1, dims=0).flip(2) * chance(0.5, 1), ground)
    across = torch.linspace(-1, 1, size, device=pictures.device)
    aside, above = chance(0.5, 1.2), chance(0.5, 1.2)
    framed = (across[None, None].abs() < aside) & (across[None, :, None].abs() < above)
    framed = framed | (chance(0, 1) < 0.5)
    other = object_ * tone + (1 - object_) * torch.where(framed, ground, 1.0)
    other = torch.where(
        chance(0, 1) < 0.3, torch.nn.functional.avg_pool2d(other, 3, 1, 1, False, False), other
    )
    return torch.where(chance(0, 1) < share, other.clamp(0, 1), pictures)


def _texture(batch: int, size: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """(B, S, S) noise of about -1..1: grains of four sizes, each weighing something else in every picture."""
    out = torch.zeros((batch, 1, size, size), device=like.device)
    for cells in (2, 5, 12, 32):
        noise = _uniform(like, (batch, 1, cells, cells), -1.0, 1.0, generator)
        weight = _uniform(like, (batch, 1, 1, 1), 0.0, 1.0, generator)
        out = out + weight * torch.nn.functional.interpolate(noise, (size, size), mode="bilinear")
    return out[:, 0]


def _uniform(
    like: Tensor, shape: tuple[int, ...], low: float, high: float, generator: torch.Generator
) -> Tensor:
    chance = torch.rand(shape, generator=generator, device=like.device, dtype=torch.float32)
    return chance.mul_(high - low).add_(low)
