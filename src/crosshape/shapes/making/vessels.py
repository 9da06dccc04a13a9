"""Vessels made from code. Z is up; a builder gives the pieces of each part.

Mugs, glasses and vases share walls, and some of them handles.
"""

from __future__ import annotations

import numpy as np

from crosshape.shapes.making.solids import (
    Parts,
    Piece,
    Random,
    ball,
    chance,
    circle,
    lathe,
    level,
    move,
    smooth,
    sweep,
    tube,
    vessel,
)


def grip(
    r: Random, top: float, low: float, high: float, reach: float, thick: float, foot: float | None = None
) -> Piece:
    """A handle along +X, from the wall (radius `top` above, `foot` below) out by `reach` and back."""
    foot = top if foot is None else foot
    square = chance(r, 0.3)
    sag = r.uniform(-0.15, 0.15) * (high - low)
    corners = [
        [top - 0.5 * thick, 0, high],
        [top + reach, 0, high + (0 if square else 0.1 * (high - low))],
        [max(top, foot) + reach, 0, low + sag],
        [foot - 0.5 * thick, 0, low],
    ]
    return sweep(smooth(corners, 2 if square else 4), circle(thick, 12) * (1, r.uniform(0.6, 1.4)))


def knob(r: Random, radius: float, z: float) -> Piece:
    return lathe(
        smooth(
            [
                [0.5 * radius, z],
                [0.4 * radius, z + 0.6 * radius],
                [radius, z + radius],
                [0.01, z + 2 * radius],
            ],
            2,
        ),
        20,
    )


def mug(r: Random) -> Parts:
    radius, height = r.uniform(0.32, 0.5), r.uniform(0.6, 1.1)
    foot, waist = radius * r.uniform(0.65, 1.05), radius * r.uniform(0.85, 1.1)
    profile = smooth([[foot * 0.93, 0], [foot, 0.04], [waist, 0.5 * height], [radius, height]], 2)
    low, high = r.uniform(0.15, 0.3) * height, r.uniform(0.7, 0.9) * height
    rim = [tube(level(circle(radius - 0.015, 40), height), 0.03, True, 8)] if chance(r, 0.4) else []
    wave = (int(r.integers(8, 20)), 0.03) if chance(r, 0.2) else (0, 0.0)
    sides = int(r.choice([8, 48, 48]))
    return {
        "body": [vessel(profile, r.uniform(0.03, 0.06), sides, wave)],
        "handle": [
            grip(
                r,
                0.95 * waist,
                low,
                high,
                r.uniform(0.15, 0.32),
                r.uniform(0.03, 0.06),
                0.95 * (foot + waist) / 2,
            )
        ],
        "rim": rim,
        "saucer": [vessel([[0.3, -0.06], [0.45, -0.05], [1.9 * radius, 0.05]], 0.03)]
        if chance(r, 0.2)
        else [],
    }


def vase(r: Random) -> Parts:
    height = r.uniform(0.9, 1.6)
    foot, belly, neck, lip = (
        r.uniform(0.15, 0.4),
        r.uniform(0.3, 0.6),
        r.uniform(0.1, 0.3),
        r.uniform(0.15, 0.42),
    )
    z = r.uniform(0.25, 0.6) * height
    profile = smooth(
        [[0.9 * foot, 0], [foot, 0.03], [belly, z], [belly, z + 0.15], [neck, 0.82 * height], [lip, height]],
        3,
    )
    style = r.random()
    wave = (int(r.integers(5, 14)), r.uniform(0.03, 0.08)) if style < 0.35 else (0, 0.0)
    sides = int(r.integers(5, 9)) if style > 0.85 else 56
    handles: list[Piece] = []
    for side in range(int(r.choice([0, 0, 0, 1, 2]))):
        handle = grip(r, neck, z + 0.12, 0.86 * height, r.uniform(0.15, 0.25), 0.035, 0.9 * belly)
        handles.append(move(handle, turn=(0, 0, np.pi * side)))
    return {
        "body": [vessel(profile, 0.03, sides, wave, r.uniform(-1, 1) if wave[0] else 0.0)],
        "handles": handles,
        "foot": [lathe([[foot * 1.2, -0.06], [foot * 1.2, -0.02], [foot, 0.01]])] if chance(r, 0.4) else [],
    }


def bottle(r: Random) -> Parts:
    radius, height = r.uniform(0.22, 0.42), r.uniform(1.1, 1.7)
    neck, shoulder, start = (
        radius * r.uniform(0.25, 0.5),
        r.uniform(0.45, 0.7) * height,
        r.uniform(0.7, 0.85) * height,
    )
    waist = radius * (r.uniform(0.75, 0.95) if chance(r, 0.35) else 1.0)
    corners = [[0.93 * radius, 0], [radius, 0.03], [waist, 0.35 * height], [radius, shoulder], [neck, start]]
    profile = [
        *smooth(corners, int(r.integers(1, 4))),
        [neck, height],
        [1.15 * neck, height],
        [1.15 * neck, 1.03 * height],
    ]
    sides = int(r.choice([4, 6, 48, 48, 48, 48]))
    grips: list[Piece] = []
    if chance(r, 0.15):
        grips = [grip(r, 1.1 * neck, shoulder, 0.97 * height, radius, 0.035, 0.8 * radius)]
    cap: list[Piece] = []
    if chance(r, 0.6):
        top = r.uniform(0.06, 0.2)
        cap = [
            lathe(
                [[1.3 * neck, 0.97 * height], [1.3 * neck, height + top], [1.1 * neck, 1.02 * height + top]],
                24,
            )
        ]
    label = (
        [lathe([[1.02 * radius, 0.4 * shoulder], [1.02 * radius, 0.85 * shoulder]], sides)]
        if chance(r, 0.3) and waist == radius
        else []
    )
    return {"body": [lathe(profile, sides)], "cap": cap, "label": label, "handle": grips}


def glass(r: Random) -> Parts:
    radius, wall = r.uniform(0.25, 0.5), 0.02
    if chance(r, 0.35):
        height = r.uniform(0.6, 1.3)
        foot = radius * r.uniform(0.55, 1.0)
        wave = (int(r.integers(8, 16)), 0.03) if chance(r, 0.4) else (0, 0.0)
        bowl = vessel(
            smooth(
                [
                    [0.95 * foot, 0],
                    [foot, 0.03],
                    [(foot + radius) / 2 * r.uniform(0.92, 1.08), height / 2],
                    [radius, height],
                ],
                2,
            ),
            2 * wall,
            int(r.choice([6, 48, 48, 48])),
            wave,
        )
        return {"bowl": [bowl], "stem": [], "foot": []}
    stem, tall = r.uniform(0.15, 0.8), r.uniform(0.35, 0.9)
    lip = radius * r.uniform(0.7, 1.25)
    outline = smooth([[0.03, 0], [radius, 0.1 * tall], [radius, 0.5 * tall], [lip, tall]], 3)
    if chance(r, 0.25):
        outline = np.array([[0.03, 0], [1.2 * radius, 0.7 * tall]])
    thick = r.uniform(0.025, 0.05)
    profile = smooth([[0.16, 0], [thick, 0.1], [thick, stem], [2 * thick, stem + 0.06]], 3)
    parts: Parts = {"bowl": [move(vessel(outline, wall, 48), (0, 0, stem))], "stem": [lathe(profile, 24)]}
    if chance(r, 0.3):
        parts["stem"].append(
            ball((2.2 * thick, 2.2 * thick, 1.6 * thick), (0, 0, stem * r.uniform(0.4, 0.8)))
        )
    base = r.uniform(0.6, 0.95) * radius + 0.05
    return {**parts, "foot": [lathe([[base, 0], [base, 0.02], [0.1, 0.06]], 48)]}


def teapot(r: Random) -> Parts:
    radius, height = r.uniform(0.45, 0.6), r.uniform(0.55, 0.95)
    foot, neck = radius * r.uniform(0.55, 0.95), radius * r.uniform(0.35, 0.7)
    z = r.uniform(0.35, 0.6) * height
    body = lathe(
        smooth([[foot, 0], [radius, 0.3 * z], [radius, 1.3 * z], [neck, height]], 3),
        int(r.choice([8, 56, 56])),
    )
    out = radius + r.uniform(0.3, 0.5)
    path = smooth(
        [
            [-0.7 * radius, 0, 0.5 * z],
            [-radius - 0.2, 0, 0.7 * z],
            [-radius - 0.15, 0, 0.8 * height],
            [-out, 0, height * r.uniform(0.9, 1.1)],
        ],
        3,
    )
    spout = sweep(path, circle(1, 16), scale=np.linspace(r.uniform(0.11, 0.16), 0.05, len(path)))
    if chance(r, 0.3):
        bow = smooth(
            [
                [-0.75 * radius, 0, 0.9 * height],
                [-0.7 * radius, 0, 1.7 * height],
                [0.7 * radius, 0, 1.7 * height],
                [0.75 * radius, 0, 0.9 * height],
            ],
            4,
        )
        handle = tube(bow, 0.04)
    else:
        handle = grip(
            r,
            0.85 * radius,
            0.6 * z,
            0.85 * height,
            r.uniform(0.2, 0.35),
            r.uniform(0.035, 0.055),
            0.95 * radius,
        )
    rise = r.uniform(0.05, 0.2)
    lid = lathe(
        smooth(
            [
                [1.08 * neck, height - 0.02],
                [neck, height + 0.02],
                [0.6 * neck, height + rise],
                [0.02, height + rise],
            ],
            2,
        )
    )
    return {
        "body": [body],
        "spout": [spout],
        "handle": [handle],
        "lid": [lid, knob(r, r.uniform(0.05, 0.09), height + rise - 0.02)],
    }
