"""Hardware and tools made from code. Z is up; a builder gives the pieces of each part.

Bolt, screw and nail share heads and shanks; key and wrench a pose; gear and wheel an outline.
"""

from __future__ import annotations

import numpy as np

from crosshape.shapes.making.solids import (
    Parts,
    Piece,
    Random,
    box,
    chance,
    circle,
    joined,
    lathe,
    level,
    loft,
    move,
    plate,
    rectangle,
    rod,
    slab,
    smooth,
    sweep,
    tube,
)


def shank(r: Random, radius: float, low: float, high: float, thread: float, pitch: float) -> Piece:
    """A rod along Z with a thread from `low` up to `thread`."""
    turns = np.arange(low, thread, pitch)
    ridges = np.stack([np.tile([0.86, 1.0], len(turns)), np.repeat(turns, 2)], axis=1)
    ridges[1::2, 1] += pitch / 2
    return lathe([[0.8 * radius, low], *(ridges * (radius, 1)), [radius, thread + pitch], [radius, high]], 20)


def head_of(r: Random, style: str, radius: float, tall: float, z: float) -> Piece:
    """The head of a bolt or screw: hex, round, cylinder with a socket, countersunk or flange."""
    if style == "hex":
        return slab(circle(radius, 6), z, z + tall, 0.12 * tall)
    if style == "round":
        return lathe([[radius * np.cos(a), z + tall * np.sin(a)] for a in np.linspace(0, 1.5, 9)])
    if style == "socket":
        hole = 0.55 * radius
        return lathe(
            [
                [radius, z],
                [radius, z + 0.9 * tall],
                [0.9 * radius, z + tall],
                [hole, z + tall],
                [hole, z + 0.4 * tall],
            ],
            36,
        )
    if style == "flat":
        return lathe(
            [[0.4 * radius, z - 0.3 * tall], [radius, z + 0.4 * tall], [radius, z + 0.55 * tall]], 36
        )
    wide = lathe([[1.3 * radius, z], [1.3 * radius, z + 0.2 * tall], [radius, z + 0.35 * tall]], 36)
    return joined([wide, slab(circle(0.95 * radius, 6), z + 0.2 * tall, z + tall, 0.1 * tall)])


def bolt(r: Random) -> Parts:
    radius, length = r.uniform(0.12, 0.22), r.uniform(0.8, 1.6)
    style = str(r.choice(["hex", "hex", "round", "socket", "flange"]))
    head = radius * r.uniform(1.7, 2.3)
    thread = length * (r.uniform(0.35, 0.95) if chance(r, 0.7) else 0.95)
    rest: list[Piece] = []
    if chance(r, 0.4):
        z = r.uniform(0.1, 0.7) * thread
        rest.append(slab(circle(1.9 * radius, 6), z, z + 1.4 * radius, 0.15 * radius))
    if chance(r, 0.3):
        rest.append(lathe([[2.4 * radius, length - 0.06], [2.4 * radius, length - 0.01]], 36))
    return {
        "head": [head_of(r, style, head, radius * r.uniform(1, 1.8), length)],
        "shank": [shank(r, radius, 0, length, thread, radius * r.uniform(0.3, 0.5))],
        "nut": rest,
    }


def screw(r: Random) -> Parts:
    radius, length = r.uniform(0.09, 0.2), r.uniform(0.8, 1.6)
    style = str(r.choice(["flat", "flat", "round", "hex", "flange"]))
    thread, tip = length * r.uniform(0.5, 0.95), radius * r.uniform(1.5, 3.5)
    pitch = radius * r.uniform(0.45, 0.8)
    turns = np.arange(0.3 * tip, thread, pitch)
    core = np.minimum(1, turns / tip) * 0.68 * radius
    wall = np.minimum(1, (turns + 0.35 * pitch) / tip) * radius
    profile = np.stack(
        [np.stack([core, turns], 1), np.stack([wall, turns + 0.35 * pitch], 1)], axis=1
    ).reshape(-1, 2)
    body = lathe([[0.005, 0], *profile, [0.75 * radius, thread + 0.05], [0.75 * radius, length]], 20)
    head = radius * r.uniform(1.7, 2.4)
    slot: list[Piece] = []
    if style in ("flat", "round"):
        top = length + (0.56 if style == "flat" else 0.95) * radius * 1.2
        slot = [box((1.3 * head, 0.2 * head, 0.05), (0, 0, top))]
        if chance(r, 0.6):
            slot.append(box((0.2 * head, 1.3 * head, 0.05), (0, 0, top)))
    return {"head": [head_of(r, style, head, 1.2 * radius, length)], "shank": [body], "slot": slot}


def nail(r: Random) -> Parts:
    radius, length = r.uniform(0.04, 0.11), r.uniform(1.0, 1.6)
    point, head = radius * r.uniform(2, 4), radius * r.uniform(1.7, 3.2)
    sides = int(r.choice([4, 6, 20, 20]))
    tall = radius * r.uniform(0.3, 1.0)
    if chance(r, 0.3):
        top = lathe([[radius, length - 2 * tall], [head, length], [head, length + 0.4 * tall]], 32)
    elif chance(r, 0.3):
        top = lathe([[head * np.cos(a), length + 1.5 * tall * np.sin(a)] for a in np.linspace(0, 1.5, 8)], 32)
    else:
        top = lathe([[head, length - 0.01], [head, length + tall], [0.9 * head, length + 1.2 * tall]], 32)
    rings = (
        [
            tube(level(circle(radius, 20), z), 0.12 * radius, True, 6)
            for z in np.linspace(0.3, 0.8, 9) * length
        ]
        if chance(r, 0.35)
        else []
    )
    shaft = lathe(
        [[0.003, 0], [radius, point], [radius, length]], sides, twist=r.choice([0, 3.0]) if sides < 10 else 0
    )
    return {"head": [top], "shaft": [shaft], "rings": rings}


def gear(r: Random) -> Parts:
    teeth, thick = int(r.integers(8, 26)), r.uniform(0.15, 0.5)
    depth, duty = r.uniform(0.08, 0.22) * (14 / max(teeth, 14)) ** 0.5, r.uniform(0.45, 0.6)
    phase = np.arange(teeth * 4) % 4
    base = np.arange(teeth).repeat(4)
    shift = np.array([0, 0.16, duty - 0.16 + 0.1, duty + 0.1])[phase]
    radius = np.where((phase == 1) | (phase == 2), 1.0, 1.0 - depth)
    angle = 2 * np.pi * (base + shift) / teeth
    outer = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    spoke = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    hole = r.uniform(0.12, 0.3)
    hub_radius = hole + r.uniform(0.08, 0.2)
    parts: Parts = {
        "teeth": [],
        "web": [],
        "hub": [
            lathe(
                [
                    [hub_radius, -0.5 * thick * 1.4],
                    [hub_radius, 0.7 * thick],
                    [hole, 0.7 * thick],
                    [hole, -0.7 * thick],
                ],
                36,
            )
        ],
    }
    inner = (1 - depth) * r.uniform(0.72, 0.85)
    style = r.choice(["solid", "spokes", "plain"])
    if style == "plain":
        parts["teeth"] = [plate(outer, hole * spoke, -thick / 2, thick / 2)]
        parts["hub"] = parts["hub"] if chance(r, 0.4) else []
    else:
        parts["teeth"] = [plate(outer, inner * spoke, -thick / 2, thick / 2)]
        if style == "solid":
            parts["web"] = [
                plate(1.01 * inner * spoke, 0.9 * hub_radius * spoke, -0.15 * thick, 0.15 * thick)
            ]
        else:
            for a in np.arange(count := int(r.integers(3, 7))) * 2 * np.pi / count:
                bar = box(
                    (inner - 0.8 * hub_radius, r.uniform(0.1, 0.2), 0.5 * thick),
                    ((inner + 0.9 * hub_radius) / 2, 0, 0),
                    0.02,
                )
                parts["web"].append(move(bar, turn=(0, 0, a)))
    axle = [rod((0, 0, -r.uniform(0.5, 1)), (0, 0, r.uniform(0.5, 1)), hole)] if chance(r, 0.25) else []
    turn = (np.pi / 2, 0, 0) if chance(r, 0.4) else (0, 0, 0)
    return {
        name: [move(piece, turn=turn) for piece in pieces] for name, pieces in {**parts, "axle": axle}.items()
    }


def wheel(r: Random) -> Parts:
    width, tread = r.uniform(0.15, 0.5), r.uniform(0.1, 0.3)
    inner = 1 - tread
    tyre_line = smooth([[inner, -width / 2], [1, -width / 2], [1, width / 2], [inner, width / 2]], 2)
    tyre = loft([level(circle(q, 48), z) for q, z in tyre_line], closed=True)
    blocks: list[Piece] = []
    if chance(r, 0.3):
        for a in np.arange(24) * 2 * np.pi / 24:
            blocks.append(move(box((0.07, 0.12, 0.9 * width), (1.0, 0, 0)), turn=(0, 0, a)))
    rim = plate(circle(1.01 * inner, 48), circle(0.88 * inner, 48), -0.4 * width, 0.4 * width)
    hub, count = r.uniform(0.12, 0.3), int(r.integers(3, 14))
    spokes: list[Piece] = []
    if chance(r, 0.25):
        spokes = [plate(circle(0.9 * inner, 48), circle(0.9 * hub, 48), -0.1 * width, 0.15 * width)]
    else:
        wide = r.uniform(0.06, 0.2) if count < 8 else 0.03
        for a in np.arange(count) * 2 * np.pi / count:
            bar = rod((0.8 * hub, 0, 0.2 * width), (0.92 * inner, 0, 0), wide, 0.7 * wide, 8)
            spokes.append(move(bar, turn=(0, 0, a)))
    parts: Parts = {
        "tyre": [tyre, *blocks],
        "rim": [rim],
        "spokes": spokes,
        "hub": [lathe([[hub, -0.35 * width], [hub, 0.35 * width], [0.4 * hub, 0.5 * width]], 24)],
    }
    turn = (np.pi / 2, 0, 0) if chance(r, 0.7) else (0, 0, 0)
    return {name: [move(piece, turn=turn) for piece in pieces] for name, pieces in parts.items()}


def bracket(r: Random) -> Parts:
    width, long, tall = r.uniform(0.4, 0.9), r.uniform(0.7, 1.2), r.uniform(0.6, 1.2)
    thick = r.uniform(0.07, 0.16)

    def holed(length: float) -> list[Piece]:
        """A plate from x = 0 to `length`, of cells with a hole or a slot each."""
        count = int(r.integers(1, 3))
        rows = 2 if width > 0.65 and chance(r, 0.6) else 1
        cell, row = length / count, width / rows
        size = min(cell, row) * r.uniform(0.2, 0.32)
        pieces = []
        for i in range(count):
            for j in range(rows):
                hole = circle(size, 40)
                square = hole / np.abs(hole / (cell / 2, row / 2)).max(axis=1, keepdims=True)
                pieces.append(
                    move(plate(square, hole, 0, thick), ((i + 0.5) * cell, (j + 0.5) * row - width / 2, 0))
                )
        return pieces

    wall = [move(piece, (0, 0, 0), (0, -np.pi / 2, 0)) for piece in holed(tall)]
    base = holed(long)
    style = r.choice(["L", "U", "T"])
    if style == "T":
        middle = long * r.uniform(0.4, 0.6)
        wall = [move(piece, (middle, 0, 0)) for piece in wall]
    if style == "U":
        wall += [move(piece, (long + thick, 0, 0)) for piece in wall]
    ribs: list[Piece] = []
    if chance(r, 0.6) and style == "L":
        reach = r.uniform(0.5, 0.9)
        corner = np.array([[0, 0], [reach * long, 0], [0, reach * tall]])
        for y in (0.0,) if chance(r, 0.5) else (-0.42 * width, 0.42 * width):
            ribs.append(move(slab(corner, -thick / 3, thick / 3), (0, y, thick / 2), (np.pi / 2, 0, 0)))
    boss = (
        [lathe([[0.2, 0], [0.2, thick + 0.2], [0.11, thick + 0.2], [0.11, 0]], 28)]
        if chance(r, 0.3) and style != "T"
        else []
    )
    return {
        "base": base,
        "wall": wall,
        "ribs": ribs,
        "boss": [move(piece, (long * 0.55, 0, 0)) for piece in boss],
    }


def key(r: Random) -> Parts:
    length, radius, thick = r.uniform(0.9, 1.5), r.uniform(0.035, 0.07), r.uniform(0.05, 0.1)
    bow_size = r.uniform(0.2, 0.34)
    flat = chance(r, 0.45)
    hole = circle(r.uniform(0.3, 0.65), 32)
    shape = r.choice(["round", "oval", "square", "clover"])
    if shape == "clover":
        angle = 2 * np.pi * (np.arange(48) + 0.5) / 48
        outer = (0.8 + 0.25 * np.cos(3 * angle))[:, None] * circle(1, 48)
        hole = 0.35 * circle(1, 48)
    elif shape == "square":
        outer = circle(1, 32) / np.abs(circle(1, 32)).max(axis=1, keepdims=True) ** 0.8
    else:
        outer = circle(1, 32) * ((1, 1) if shape == "round" else (0.75, 1.2))
    bow = [move(plate(bow_size * outer, bow_size * hole, -thick / 2, thick / 2), (-bow_size * 0.9, 0, 0))]
    if flat:
        wide = r.uniform(0.09, 0.14)
        blade = [
            move(slab(rectangle(length, wide, 0.02), -0.35 * thick, 0.35 * thick, 0.01), (length / 2, 0, 0))
        ]
        count = int(r.integers(4, 8))
        teeth = [
            box(
                (0.5 * length / count / 1.6, r.uniform(0.04, 0.11), 0.6 * thick),
                (length * (0.4 + 0.56 * i / (count - 1)), -wide / 2 - 0.02, 0),
                top=0.8,
            )
            for i in range(count)
        ]
    else:
        blade = [rod((-0.05, 0, 0), (length, 0, 0), radius)]
        blade.append(
            move(lathe([[1.5 * radius, 0], [1.5 * radius, 0.06]], 20), (0.04, 0, 0), (0, np.pi / 2, 0))
        )
        deep, count = r.uniform(0.16, 0.3), int(r.integers(1, 4))
        teeth = []
        for i in range(count):
            wide = r.uniform(0.05, 0.1)
            teeth.append(
                box((wide, deep * r.uniform(0.7, 1), 0.6 * radius), (length - 0.06 - 0.14 * i, -deep / 2, 0))
            )
        if chance(r, 0.4):
            teeth.append(box((0.14 * count, 0.05, 0.6 * radius), (length - 0.07 * count, -deep * 0.6, 0)))
    stand = (0, r.choice([0.0, -np.pi / 2, np.pi / 2], p=[0.4, 0.3, 0.3]), 0)
    parts: Parts = {"bow": bow, "blade": blade, "teeth": teeth}
    return {name: [move(piece, turn=stand) for piece in pieces] for name, pieces in parts.items()}


def hammer(r: Random) -> Parts:
    length, thick = r.uniform(1.2, 1.9), r.uniform(0.05, 0.09)
    size, reach = r.uniform(0.12, 0.2), r.uniform(0.3, 0.5)
    swell = np.array([1.0, 1.25, 1.0, 0.8, 0.75, 0.8]) * r.uniform(0.9, 1.1, 6)
    line = smooth(np.column_stack([swell, np.linspace(0, length, 6)]), 3)
    handle = [sweep([(0, 0, z) for z in line[:, 1]], circle(thick, 14) * (1, 0.75), scale=line[:, 0])]
    z = length
    style = r.choice(["claw", "sledge", "mallet", "peen"])
    if style in ("sledge", "mallet"):
        wide = size * (1.2 if style == "mallet" else 0.8)
        if chance(r, 0.5):
            head = [
                move(
                    lathe(
                        [
                            [0.9 * wide, -reach],
                            [wide, 0.06 - reach],
                            [wide, reach - 0.06],
                            [0.9 * wide, reach],
                        ],
                        28,
                    ),
                    (0, 0, z),
                    (0, np.pi / 2, 0),
                )
            ]
        else:
            head = [box((2 * reach, 1.6 * wide, 1.8 * wide), (0, 0, z), 0.05)]
    else:
        face = [[0.75 * size, 0.0], [0.75 * size, 0.12], [0.5 * size, 0.2], [0.5 * size, 0.35]]
        barrel = move(lathe(np.array(face) * (1, reach / 0.35), 24), (reach, 0, z), (0, -np.pi / 2, 0))
        head = [barrel, box((2.4 * thick, 1.3 * size, 1.5 * size), (0, 0, z), 0.02)]
        if style == "peen":
            head.append(
                move(
                    lathe(
                        [
                            [0.5 * size, 0],
                            [0.45 * size, 0.6 * reach],
                            [0.3 * size, 0.75 * reach],
                            [0.01, 0.8 * reach],
                        ],
                        20,
                    ),
                    (0, 0, z),
                    (0, -np.pi / 2, 0),
                )
            )
        else:
            drop = r.uniform(0.1, 0.35)
            for s in (1, -1):
                path = smooth(
                    [
                        [0, 0.25 * size * s, z],
                        [-0.5 * reach, 0.3 * size * s, z + 0.05],
                        [-reach, 0.45 * size * s, z - drop],
                    ],
                    3,
                )
                head.append(
                    sweep(
                        path,
                        rectangle(0.45 * size, 0.7 * size, 0.02, 3),
                        scale=np.linspace(1, 0.35, len(path)),
                    )
                )
    wrap = (
        [sweep([(0, 0, 0.02), (0, 0, 0.38 * length)], circle(1.35 * thick, 14) * (1, 0.8))]
        if chance(r, 0.4)
        else []
    )
    return {"head": head, "handle": handle, "grip": wrap}


def wrench(r: Random) -> Parts:
    length, width, thick = r.uniform(1.2, 1.9), r.uniform(0.11, 0.2), r.uniform(0.06, 0.12)
    shaft = [box((length, width, 0.7 * thick), (0, 0, 0), 0.02)]
    if chance(r, 0.4):
        shaft.append(box((0.6 * length, 1.15 * width, 0.4 * thick), (0, 0, 0), 0.02))

    def ring(size: float) -> Piece:
        return plate(circle(size, 36), circle(0.58 * size, 6).repeat(6, axis=0), -0.6 * thick, 0.6 * thick)

    def jaw(size: float, aim: float) -> Piece:
        gap = r.uniform(0.55, 0.75)
        angle = np.linspace(gap, 2 * np.pi - gap, 22)
        path = size * np.column_stack([np.cos(angle), np.sin(angle), np.zeros(22)])
        section = rectangle(0.62 * size, 1.2 * thick, 0.02, 3)
        return move(
            sweep(path, section, scale=np.interp(angle, [gap, np.pi, 6.28 - gap], [0.9, 1.15, 0.9])),
            turn=(0, 0, aim),
        )

    ends: dict[str, list[Piece]] = {"jaw": [], "ring": []}
    for side in (1, -1):
        size = width * r.uniform(1.0, 1.45)
        kind = "jaw" if side > 0 or chance(r, 0.5) else "ring"
        piece = jaw(size, r.uniform(-0.3, 0.3)) if kind == "jaw" else ring(1.15 * size)
        if side < 0 and chance(r, 0.2):
            continue
        ends[kind].append(
            move(piece, (side * (length / 2 + 0.75 * size), 0, 0), (0, 0, 0 if side > 0 else np.pi))
        )
    stand = (0, r.choice([0.0, np.pi / 2, -np.pi / 2], p=[0.4, 0.3, 0.3]), 0)
    parts: Parts = {"shaft": shaft, **ends}
    return {name: [move(piece, turn=stand) for piece in pieces] for name, pieces in parts.items()}
