"""A picture of an object, made to look like a view of a library: object alone, squared, grey, white ground.

Runs in a guarded child (shapes/guard.py): pictures come from strangers.
"""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np

from crosshape.errors import UnreadableShape

PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
"""Suffix (in any case) -> the only formats that are decoded."""

MEGAPIXELS = 40
"""The largest picture that is decoded, in millions of pixels; read from its head before anything else is."""

WORKING = 384
"""Pixels of the longer side while the object is looked for."""

SHARE = 0.8
"""Of the picture's side that the object's longer side takes; what shapes take in views (measured, middle)."""

CLEANUPS = ("grey", "stretched", "flat", "whole")
"""grey: cut out, grey as it is; stretched: greys spread as in a view; flat: one grey; whole: not cut out."""


def read_picture(path: str | os.PathLike[str], size: int, cleanup: str = "stretched") -> np.ndarray:
    """-> (size, size) uint8: the object in a picture, as a view. Raises UnreadableShape with a true reason."""
    return see_picture(path, size, cleanup)[0]


def see_picture(
    path: str | os.PathLike[str], size: int, cleanup: str = "stretched"
) -> tuple[np.ndarray, bool]:
    """As `read_picture`, and whether an object was looked for and none stands out from the ground."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    from crosshape.shapes.views import eight_bit

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.MAX_IMAGE_PIXELS = None  # the limit below is ours
            with Image.open(path, formats=sorted(set(PICTURES.values()))) as picture:
                width, height = picture.size
                if width * height > MEGAPIXELS * 1_000_000:
                    raise UnreadableShape(
                        f"{width:,} x {height:,} pixels; the limit is {MEGAPIXELS} million pixels"
                    )
                if min(width, height) < 8:
                    raise UnreadableShape(f"{width} x {height} pixels; 8 x 8 are the least")
                picture.draft("RGB", (2 * WORKING, 2 * WORKING))
                turned = eight_bit(ImageOps.exif_transpose(picture))
                turned.thumbnail((WORKING, WORKING), reducing_gap=2.0)
                colours = np.asarray(_on_white(turned), np.float32)
    except UnidentifiedImageError:
        raise UnreadableShape("it is no PNG, JPEG or WebP picture") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UnreadableShape(f"it cannot be decoded ({text[:200]})") from None
    return clean(colours, size, cleanup)


def _on_white(picture: Any) -> Any:
    """RGB, what is transparent shows white."""
    from PIL import Image

    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        ground = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, picture).convert("RGB")
    return picture.convert("RGB")


def clean(colours: np.ndarray, size: int, cleanup: str = "stretched") -> tuple[np.ndarray, bool]:
    """colours (H, W, 3), 0 to 255 -> (size, size) uint8, the object in the middle of a white ground; and whether none
    stands out from its ground, so that the whole picture is taken.
    """
    from PIL import Image

    from crosshape.shapes.views import EDGE, FRONT, GROUND

    grey = colours @ np.array([0.299, 0.587, 0.114], np.float32)
    mask = None if cleanup == "whole" else object_mask(colours)
    missing = mask is None and cleanup != "whole"
    if mask is None:
        mask = np.ones(grey.shape, bool)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    inside = grey[mask]
    if cleanup == "stretched":
        low, high = np.quantile(inside, [0.02, 0.98])
        grey = EDGE + (FRONT - EDGE) * np.clip((grey - low) / max(high - low, 1.0), 0, 1)
    elif cleanup == "flat":
        grey = np.full_like(grey, (EDGE + FRONT) / 2)
    else:
        grey = np.minimum(grey, FRONT)
    grey = np.where(mask, grey, GROUND)[top:bottom, left:right]
    height, width = grey.shape
    scale = SHARE * size / max(height, width)
    wide, high_ = max(1, round(width * scale)), max(1, round(height * scale))
    small = Image.fromarray(grey.astype(np.float32)).resize((wide, high_), Image.Resampling.BOX)
    out = np.full((size, size), GROUND, np.uint8)
    y, x = (size - high_) // 2, (size - wide) // 2
    out[y : y + high_, x : x + wide] = np.clip(np.asarray(small), 0, 255).round()
    return out, missing


def object_mask(colours: np.ndarray) -> np.ndarray | None:
    """(H, W, 3) -> (H, W) bool, what differs from the ground that the border shows; None where none does.

    The ground is a plane of colour (light falls off over a wall) fitted to the border, twice, the second time
    without what sticks out. None too where the border is no plain ground.
    """
    from scipy import ndimage

    height, width = colours.shape[:2]
    rows, columns = np.mgrid[0:height, 0:width]
    basis = np.stack([np.ones(height * width), (rows / height).ravel(), (columns / width).ravel()], axis=1)
    ring = max(2, min(height, width) // 50)
    border = np.ones((height, width), bool)
    border[ring:-ring, ring:-ring] = False
    flat = colours.reshape(-1, 3).astype(np.float64)
    used = border.ravel().copy()
    middle = np.median(flat[used], axis=0)
    used &= np.abs(flat - middle).max(axis=1) <= 60
    for _ in range(2):
        if used.sum() < 8:
            return None
        plane = basis @ np.linalg.lstsq(basis[used], flat[used], rcond=None)[0]
        away = np.abs(flat - plane).max(axis=1)
        spread = float(np.median(away[used]))
        limit = max(14.0, 5 * spread)
        used = border.ravel() & (away <= limit)
    if used.sum() < 0.6 * border.sum() or limit > 60:
        return None
    mask = (away > limit).reshape(height, width)
    mask = ndimage.binary_closing(np.pad(mask, 4), iterations=3)[4:-4, 4:-4]
    mask = ndimage.binary_opening(ndimage.binary_fill_holes(mask))
    parts, count = ndimage.label(mask)
    if not count:
        return None
    sizes = np.bincount(parts.ravel())[1:]
    mask = np.isin(parts, 1 + np.flatnonzero(sizes >= 0.1 * sizes.max()))
    share = mask.mean()
    return mask if 0.005 <= share <= 0.97 else None
