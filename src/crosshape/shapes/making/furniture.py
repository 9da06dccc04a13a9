"""Furniture made from code. Z is up; a builder gives the pieces of each part.

Stool, table and bench share tops and legs: that is what makes them hard to tell apart.
"""

from __future__ import annotations

import numpy as np

from crosshape.shapes.making.solids import (
    Parts,
    Piece,
    Random,
    ball,
    box,
    chance,
    circle,
    four,
    lathe,
    level,
    loft,
    move,
    rectangle,
    rod,
    slab,
    smooth,
    tube,
)


def frame(r: Random, width: float, depth: float, height: float, thick: float) -> list[Piece]:
    """What stands under a seat or a table top: legs of some style, from the ground up to `height`."""
    style = r.choice(["square", "round", "splayed", "tapered", "pedestal", "sled", "trestle", "panels"])
    x, y = width / 2 - thick, depth / 2 - thick
    if style == "pedestal":
        foot = min(width, depth) * r.uniform(0.3, 0.48)
        profile = [[foot, 0], [foot, 0.03 * height], [2 * thick, 0.1 * height], [thick, 0.3 * height]]
        return [lathe([*profile, [thick, 0.85 * height], [2.5 * thick, height]])]
    if style == "sled":
        bow = smooth([[x, -y, height], [x, -y, 0], [x, y, 0], [x, y, height]], 2)
        return [
            tube(bow + (0, 0, 0.4 * thick), 0.4 * thick),
            tube(bow * (-1, 1, 1) + (0, 0, 0.4 * thick), 0.4 * thick),
        ]
    if style == "trestle":
        cross = [rod((s, -y, 0), (s, y, height), thick / 2, sides=4) for s in (x, -x)]
        cross += [rod((s, y, 0), (s, -y, height), thick / 2, sides=4) for s in (x, -x)]
        return [*cross, rod((x, 0, height / 2), (-x, 0, height / 2), 0.4 * thick)]
    if style == "panels":
        return [box((0.6 * thick, 0.9 * depth, height), (s, 0, height / 2), 0.1 * thick) for s in (x, -x)]
    out = r.uniform(0.05, 0.2) * min(width, depth) if style == "splayed" else 0.0
    tip = 0.5 if style in ("tapered", "splayed") else 1.0
    sides = 4 if style == "square" else 12
    legs = []
    for px, py in four(x, y):
        end = (px + out * np.sign(px), py + out * np.sign(py), 0)
        legs.append(rod((px, py, height), end, 0.6 * thick, 0.6 * thick * tip, sides))
    if chance(r, 0.4):
        z = r.uniform(0.2, 0.6) * height
        s = out * (1 - z / height)
        legs += [rod((px, y + s, z), (px, -y - s, z), 0.3 * thick) for px in (x + s, -x - s)]
        if chance(r, 0.5):
            legs.append(rod((x + s, 0, z), (-x - s, 0, z), 0.3 * thick))
    return legs


def board(r: Random, width: float, depth: float, thick: float, z: float, round_chance: float = 0.3) -> Piece:
    """A flat top, round or with rounded corners, its upper face at z."""
    if chance(r, round_chance):
        outline = circle(0.5, 40) * (width, depth)
    else:
        outline = rectangle(width, depth, r.choice([0.02, 0.1, 0.3]) * min(width, depth))
    return slab(outline, z - thick, z, 0.3 * thick)


def chair(r: Random) -> Parts:
    width, depth, seat = r.uniform(0.8, 1.15), r.uniform(0.8, 1.05), r.uniform(0.75, 1.05)
    thick, tall, lean = r.uniform(0.06, 0.16), r.uniform(0.6, 1.25), r.uniform(0.0, 0.3)
    y = depth / 2 - thick
    back: list[Piece] = []
    style = r.choice(["panel", "slats", "rails", "hoop", "spindles"])

    def at(across: float, up: float) -> tuple[float, float, float]:
        return across, y + lean * up, seat + tall * up

    x = width / 2 - thick
    if style == "panel":
        sheet = slab(
            rectangle(width, tall * r.uniform(0.5, 0.95), 0.2 * width * r.random()),
            -0.4 * thick,
            0.4 * thick,
            0.1 * thick,
        )
        middle = at(0, 0.55)
        back = [move(sheet, middle, (np.pi / 2 - np.arctan2(lean, tall), 0, 0))]
        back += [rod(at(s, -0.05), at(s, 0.6), 0.35 * thick) for s in (0.6 * x, -0.6 * x)]
    elif style == "hoop":
        hoop = smooth([at(-x, 0), at(-1.1 * x, 1.05), at(1.1 * x, 1.05), at(x, 0)], 4)
        back = [tube(hoop, 0.35 * thick)]
        back += [
            rod(at(s, 0), at(s, 0.78 - 0.25 * (s / x) ** 2), 0.2 * thick, sides=8)
            for s in np.linspace(-0.6, 0.6, r.integers(2, 6)) * x
        ]
    else:
        back = [rod(at(s, -0.05), at(s, 1.0), 0.45 * thick, sides=8) for s in (x, -x)]
        count = r.integers(2, 6)
        if style == "rails":
            for up in np.linspace(0.3, 0.95, count):
                back.append(
                    move(
                        box((2 * x, 0.35 * thick, 0.55 * tall / count), bevel=0.02),
                        at(0, up),
                        (-np.arctan2(lean, tall), 0, 0),
                    )
                )
        else:
            back.append(
                move(
                    box((2 * x + thick, 0.8 * thick, 0.16 * tall), bevel=0.02),
                    at(0, 0.95),
                    (-np.arctan2(lean, tall), 0, 0),
                )
            )
            half = 0.4 if style == "spindles" else 1.0
            for s in np.linspace(-0.75, 0.75, count + 1) * x:
                back.append(rod(at(s, 0), at(s, 0.92), half * 0.4 * thick, sides=8 if half < 1 else 4))
    arms: list[Piece] = []
    if chance(r, 0.35):
        up = r.uniform(0.25, 0.45)
        for s in (x, -x):
            front = (s, -0.7 * y, seat + tall * up)
            arms += [tube(smooth([at(s, up), front, (s, -0.75 * y, seat - 0.02)], 2), 0.35 * thick)]
    return {
        "seat": [board(r, width, depth, thick * r.uniform(0.7, 1.8), seat, 0.15)],
        "back": back,
        "legs": frame(r, width, depth, seat - 0.5 * thick, thick),
        "arms": arms,
    }


def stool(r: Random) -> Parts:
    width, height, thick = r.uniform(0.6, 1.0), r.uniform(0.6, 1.6), r.uniform(0.06, 0.14)
    depth = width * r.uniform(0.75, 1.0)
    ring: list[Piece] = []
    if chance(r, 0.4):
        z = r.uniform(0.2, 0.45) * height
        ring = [tube(level(circle(0.55 * min(width, depth), 32), z), 0.25 * thick, True, 8)]
    return {
        "seat": [board(r, width, depth, thick * r.uniform(0.6, 2.2), height, 0.65)],
        "legs": frame(r, width, depth, height - 0.5 * thick, thick),
        "ring": ring,
    }


def table(r: Random) -> Parts:
    width, depth, height = r.uniform(1.1, 2.2), r.uniform(0.8, 1.2), r.uniform(0.5, 1.1)
    thick = r.uniform(0.05, 0.12)
    under: list[Piece] = []
    if chance(r, 0.3):
        under = [box((0.85 * width, 0.8 * depth, 0.5 * thick), (0, 0, height * r.uniform(0.2, 0.5)), 0.02)]
    elif chance(r, 0.5):
        z = height - thick
        under = [box((0.8 * width, 0.4 * thick, 1.5 * thick), (0, s * 0.4 * depth, z)) for s in (1, -1)]
        under += [box((0.4 * thick, 0.8 * depth, 1.5 * thick), (s * 0.4 * width, 0, z)) for s in (1, -1)]
    return {
        "top": [board(r, width, depth, thick * r.uniform(0.6, 1.3), height, 0.35)],
        "legs": frame(r, width, depth, height - 0.5 * thick, thick * r.uniform(1, 1.5)),
        "under": under,
    }


def bench(r: Random) -> Parts:
    width, depth, height = r.uniform(1.7, 2.6), r.uniform(0.45, 0.75), r.uniform(0.5, 0.75)
    thick = r.uniform(0.06, 0.12)
    count = int(r.integers(1, 5))
    step = depth / count
    seat = [
        move(
            board(r, width, 0.86 * step, thick * r.uniform(0.6, 1), height, 0.0),
            (0, (i + 0.5) * step - depth / 2, 0),
        )
        for i in range(count)
    ]
    back: list[Piece] = []
    if chance(r, 0.45):
        lean, tall = r.uniform(0, 0.2), r.uniform(0.4, 0.75)
        tilt = (-np.arctan2(lean, tall), 0, 0)
        rows = int(r.integers(1, 4))
        for up in np.linspace(0.5, 1, rows):
            back.append(
                move(
                    box((width, 0.5 * thick, 0.5 * tall / rows), bevel=0.02),
                    (0, depth / 2 + lean * up, height + tall * up),
                    tilt,
                )
            )
        for x in np.linspace(-0.42, 0.42, int(r.integers(2, 4))) * width:
            back.append(
                rod(
                    (x, depth / 2, height - thick), (x, depth / 2 + lean, height + tall), 0.3 * thick, sides=8
                )
            )
    return {
        "seat": seat,
        "back": back,
        "legs": frame(r, width, depth, height - 0.5 * thick, thick * r.uniform(1, 1.4)),
    }


def bed(r: Random) -> Parts:
    width, length, height = r.uniform(1.0, 1.8), r.uniform(1.9, 2.2), r.uniform(0.25, 0.5)
    soft = r.uniform(0.12, 0.3)
    head, foot = r.uniform(0.4, 0.9), r.choice([0.0, 0.15, 0.35])
    boards = [
        box((width, 0.08, height + head), (0, length / 2, (height + head) / 2), 0.03, r.uniform(0.85, 1))
    ]
    if foot:
        boards.append(box((width, 0.08, height + foot), (0, -length / 2, (height + foot) / 2), 0.03))
    if chance(r, 0.3):
        boards = [
            rod((x, s * length / 2, 0), (x, s * length / 2, height + tall), 0.04)
            for s, tall in ((1, head), (-1, foot))
            for x in np.linspace(-0.48, 0.48, 7) * width
        ]
        boards += [
            rod(
                (-0.5 * width, s * length / 2, height + tall),
                (0.5 * width, s * length / 2, height + tall),
                0.05,
            )
            for s, tall in ((1, head), (-1, foot))
        ]
    count = 1 if width < 1.3 else 2
    pillows = []
    for i in range(count):
        x = (i - (count - 1) / 2) * width * 0.46
        outline = rectangle(0.8 * width / count, 0.4, 0.12)
        pillows.append(
            move(
                slab(outline, 0, 0.14, 0.05),
                (x, 0.36 * length, height + soft - 0.02),
                (r.uniform(0, 0.3), 0, 0),
            )
        )
    blanket: list[Piece] = []
    if chance(r, 0.6):
        cover = rectangle(1.04 * width, length * r.uniform(0.4, 0.65), 0.05)
        blanket = [
            move(slab(cover, height - r.uniform(0, 0.12), height + soft + 0.03, 0.04), (0, -0.18 * length, 0))
        ]
    return {
        "frame": [box((width, length, 0.14), (0, 0, height - 0.07), 0.02), *boards],
        "legs": [rod((x, y, 0), (x, y, height), 0.05, sides=8) for x, y in four(0.45 * width, 0.46 * length)],
        "mattress": [move(slab(rectangle(0.96 * width, 0.97 * length, 0.12), height, height + soft, 0.06))],
        "pillows": pillows,
        "blanket": blanket,
    }


def shelf(r: Random) -> Parts:
    width, depth, height = r.uniform(0.7, 1.6), r.uniform(0.3, 0.5), r.uniform(1.0, 2.2)
    wall, count = r.uniform(0.03, 0.07), int(r.integers(3, 7))
    levels = np.linspace(0.04, 1, count) * height - wall / 2
    boards = [box((width, depth, wall), (0, 0, z), 0.005) for z in levels]
    if chance(r, 0.65):
        sides = [box((wall, depth, height), (s * (width / 2), 0, height / 2), 0.005) for s in (1, -1)]
    else:
        sides = [
            rod((x, y, 0), (x, y, height), 0.6 * wall, sides=8) for x, y in four(width / 2, 0.45 * depth)
        ]
    for x in (0.0,) if chance(r, 0.3) else ():
        sides.append(box((0.8 * wall, 0.95 * depth, height - wall), (x, 0, height / 2)))
    back = [box((width, 0.02, height), (0, depth / 2, height / 2))] if chance(r, 0.5) else []
    things: list[Piece] = []
    for z, gap in zip(levels[:-1], np.diff(levels), strict=True):
        x, full = -0.47 * width, r.uniform(0.0, 0.95)
        while chance(r, 0.97) and x < (full - 0.5) * width and full > 0.25:
            thick, tall = r.uniform(0.03, 0.09), gap * r.uniform(0.45, 0.8)
            deep = depth * r.uniform(0.5, 0.8)
            things.append(
                box((thick, deep, tall), (x + thick / 2, 0.05 * depth, z + wall / 2 + tall / 2), 0.004)
            )
            x += thick * 1.06
    return {"boards": boards, "sides": sides, "back": back, "things": things}


def ladder(r: Random) -> Parts:
    height, width, thick = r.uniform(1.6, 2.4), r.uniform(0.4, 0.7), r.uniform(0.04, 0.08)
    taper, count = r.uniform(0.6, 1.0), int(r.integers(4, 10))
    lean = r.uniform(0.15, 0.4) if chance(r, 0.6) else 0.0
    flat = chance(r, 0.5)

    def at(side: float, up: float) -> tuple[float, float, float]:
        return side * width / 2 * (1 + (taper - 1) * up), lean * height * (1 - up), height * up

    steps = []
    for up in np.linspace(0.1, 0.95, count):
        if flat:
            steps.append(box((2 * at(1, up)[0], 3 * thick, 0.5 * thick), at(0, up), 0.005))
        else:
            steps.append(rod(at(-1, up), at(1, up), 0.35 * thick))
    rails = [rod(at(s, 0), at(s, 1), 0.5 * thick, sides=4 if flat else 10) for s in (1, -1)]
    stand: list[Piece] = []
    if lean and chance(r, 0.7):
        stand = [rod((at(s, 0)[0], -at(s, 0)[1], 0), at(s, 1), 0.4 * thick, sides=4) for s in (1, -1)]
        stand.append(
            rod(
                (at(-1, 0.2)[0], -at(0, 0.2)[1], 0.2 * height),
                (at(1, 0.2)[0], -at(0, 0.2)[1], 0.2 * height),
                0.3 * thick,
            )
        )
    return {"rails": rails, "steps": steps, "stand": stand}


def lamp(r: Random) -> Parts:
    height, foot, thin = r.uniform(0.9, 2.0), r.uniform(0.25, 0.45), r.uniform(0.015, 0.05)
    base: list[Piece]
    if chance(r, 0.35):
        base = [
            rod((0, 0, 0.25 * height), (foot * np.cos(a), foot * np.sin(a), 0), thin)
            for a in np.arange(3) * 2.0944
        ]
    elif chance(r, 0.4):
        belly = r.uniform(0.7, 1.1) * foot
        base = [
            lathe(
                smooth([[0.6 * foot, 0], [belly, 0.02], [belly, 0.3 * height], [2 * thin, 0.45 * height]], 3)
            )
        ]
    else:
        base = [lathe([[foot, 0], [foot, 0.04], [0.9 * foot, 0.07], [1.5 * thin, 0.1]])]
    low, top, tall = r.uniform(0.25, 0.5), r.uniform(0.08, 0.35), r.uniform(0.25, 0.5)
    line = np.array([[low, -tall], [top, 0]])
    if chance(r, 0.3):
        line = smooth([[low, -tall], [low, -0.3 * tall], [top, 0]], 3)
    rings = [level(circle(q, 40), z) for q, z in np.concatenate([line, line[::-1] - (0.02, 0)])]
    shade = loft(rings, closed=True)
    tilt, tip = 0.0, np.array([0.0, 0.0, height])
    if chance(r, 0.45):
        reach = r.uniform(0.25, 0.6)
        knee = (-r.uniform(0, 0.3), 0, r.uniform(0.4, 0.7) * height)
        tip = np.array([reach, 0, height])
        path = np.array([(0, 0, 0.05), knee, (0.6 * reach, 0, 1.05 * height), tip])
        pole = tube(smooth(path, 4), thin) if chance(r, 0.5) else tube(path[[0, 1, 3]], thin)
        tilt = r.uniform(-0.5, 0.2)
    else:
        pole = rod((0, 0, 0.05), tip, thin)
    bulb = ball(0.09, (0, 0, -0.5 * tall))
    return {
        "base": base,
        "pole": [pole],
        "shade": [move(shade, tip, (0, tilt, 0))],
        "bulb": [move(bulb, tip, (0, tilt, 0)), rod(tip, tip + (0, 0, -0.4 * tall), 0.03)],
    }
