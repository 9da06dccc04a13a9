"""Things that move, sound or are lived in, made from code. Z is up; a builder gives the pieces
of each part."""

from __future__ import annotations

import numpy as np

from crosshape.shapes.making.solids import (
    Array,
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
    plate,
    rectangle,
    rod,
    slab,
    smooth,
    vessel,
)


def wing(root: Array, tip: Array, chord: float, tip_chord: float, thick: float) -> Piece:
    """A wing between two points: an airfoil along X, thinner towards the tip."""
    turn = np.linspace(0, -2 * np.pi, 24, endpoint=False)
    foil = np.stack([0.5 * np.cos(turn), 0.5 * np.sin(turn) * (1 - 0.5 * np.cos(turn))], axis=1)
    across = np.cross((1.0, 0.0, 0.0), tip - root)
    across /= np.linalg.norm(across)
    rings = []
    for share, size in ((0.0, 1.0), (0.96, 1.0), (1.0, 0.7)):
        length = (chord + (tip_chord - chord) * share) * size
        middle = root + (tip - root) * share
        rings.append(
            middle + length * foil[:, :1] * (1.0, 0.0, 0.0) + thick * size * length * foil[:, 1:] * across
        )
    return loft(rings)


def airplane(r: Random) -> Parts:
    length, radius = r.uniform(1.7, 2.4), r.uniform(0.09, 0.18)
    half = length / 2
    nose = r.uniform(0.15, 0.35)
    profile = smooth(
        [
            [0.01, -half],
            [0.5 * radius, -0.7 * half],
            [radius, -0.3 * half],
            [radius, half - nose],
            [0.8 * radius, half - 0.3 * nose],
            [0.01, half],
        ],
        3,
    )
    span, chord = r.uniform(0.7, 1.2), r.uniform(0.25, 0.5)
    sweep_back, rise = r.uniform(-0.05, 0.6), r.uniform(-0.08, 0.15)
    x, z = r.uniform(-0.1, 0.25), r.choice([-0.5, 0.0, 0.8]) * radius
    wings, tail, engines = [], [], []
    fin = r.uniform(0.28, 0.45)
    high = fin if chance(r, 0.25) else 0.05
    for s in (1.0, -1.0):
        root, tip = np.array([x, 0, z]), np.array([x - sweep_back, s * span, z + rise])
        wings.append(wing(root, tip, chord, chord * r.uniform(0.4, 0.7), 0.12))
        root, tip = np.array([-0.88 * half, 0, high]), np.array([-0.95 * half, s * 0.36 * span, high])
        tail.append(wing(root, tip, 0.24, 0.14, 0.1))
    root, tip = np.array([-0.86 * half, 0, 0.03]), np.array([-0.98 * half, 0, fin])
    tail.append(wing(root, tip, 0.32, 0.17, 0.1))
    style = r.choice(["jets", "jets", "propeller", "tail", "glider"])
    jet = lathe(np.array([[0.6, -1], [1, -0.4], [1, 0.8], [0.85, 1.0], [0.7, 0.7]]) * (0.075, 0.17), 20)
    if style == "jets":
        shares = (0.35,) if chance(r, 0.6) else (0.3, 0.58)
        for share in shares:
            for s in (1, -1):
                engines.append(
                    move(
                        jet,
                        (x - sweep_back * share + 0.25 * chord, s * span * share, z + rise * share - 0.1),
                        (0, np.pi / 2, 0),
                    )
                )
    elif style == "tail":
        engines = [move(jet, (-0.6 * half, s * (radius + 0.06), 0.07), (0, np.pi / 2, 0)) for s in (1, -1)]
    elif style == "propeller":
        spin, count = r.uniform(0, 3), int(r.integers(2, 5))
        for k in range(count):
            blade = box((0.02, 0.07, 0.36), (0, 0, 0.18), 0.01)
            engines.append(move(blade, (half, 0, 0), (spin + 2 * np.pi * k / count, 0, 0)))
        engines.append(ball((0.08, 0.05, 0.05), (half, 0, 0)))
    gear_parts: list[Piece] = []
    if chance(r, 0.3):
        for px, py in ((0.7 * half, 0.0), (x - 0.1, 0.25), (x - 0.1, -0.25)):
            gear_parts.append(rod((px, py, 0), (px, py, -radius - 0.15), 0.02, sides=8))
            gear_parts.append(
                move(lathe([[0.07, -0.03], [0.07, 0.03]], 20), (px, py, -radius - 0.17), (np.pi / 2, 0, 0))
            )
    return {
        "fuselage": [move(lathe(profile, 32), turn=(0, np.pi / 2, 0))],
        "wings": wings,
        "tail": tail,
        "engines": engines,
        "gear": gear_parts,
    }


def car(r: Random) -> Parts:
    length, width, low = r.uniform(1.8, 2.4), r.uniform(0.75, 0.95), r.uniform(0.14, 0.25)
    waist, roof = low + r.uniform(0.25, 0.4), r.uniform(0.22, 0.42)
    style = r.choice(["saloon", "hatch", "van", "pickup", "sport"])
    half = length / 2
    front = r.uniform(0.65, 0.95)
    stations = [(-1.0, 0.75), (-0.96, 0.95), (-0.5, 1.0), (0.4, 1.0), (0.9, front), (1.0, 0.8 * front)]
    rings = []
    for share, high in stations:
        wide = width * (0.92 if abs(share) > 0.95 else 1.0)
        outline = rectangle(wide, (waist - low) * high, 0.07)
        ring = level(outline, 0)[:, [2, 0, 1]]
        rings.append(ring + (share * half, 0, low + (waist - low) * high / 2))
    start, end = {
        "saloon": (-0.62, 0.42),
        "hatch": (-0.95, 0.4),
        "van": (-0.97, 0.75),
        "pickup": (-0.15, 0.45),
        "sport": (-0.6, 0.25),
    }[style]
    roof *= {"van": 1.6, "sport": 0.7}.get(style, 1.0)
    rake = {"van": 0.12, "sport": 0.28}.get(style, r.uniform(0.22, 0.36))
    tail_rake = 0.04 if style in ("van", "pickup", "hatch") else rake
    cabin_rings = []
    for up, squeeze in ((-0.1, 0.98), (0.0, 0.96), (0.85, 0.8), (1.0, 0.68)):
        back_x, front_x = start * half + tail_rake * max(up, 0), end * half - rake * max(up, 0)
        outline = rectangle(front_x - back_x, squeeze * width, 0.08)
        cabin_rings.append(level(outline, waist + roof * up) + ((front_x + back_x) / 2, 0, 0))
    size = low + r.uniform(0.02, 0.08)
    tyre = lathe(
        [
            [0.55 * size, -0.09],
            [0.95 * size, -0.09],
            [size, -0.06],
            [size, 0.06],
            [0.95 * size, 0.09],
            [0.55 * size, 0.09],
            [0.5 * size, 0.06],
        ],
        28,
    )
    wheels = [
        move(tyre, (px, py, size), (np.pi / 2, 0, 0))
        for px, py in four(r.uniform(0.55, 0.65) * half, width / 2 - 0.04)
    ]
    extras: list[Piece] = [box((0.07, 0.95 * width, 0.1), (s * half, 0, low + 0.08), 0.03) for s in (1, -1)]
    if style == "sport" and chance(r, 0.7):
        extras.append(box((0.16, width, 0.03), (-0.93 * half, 0, waist + 0.16), 0.01))
        extras += [box((0.08, 0.03, 0.18), (-0.92 * half, s * 0.3, waist + 0.07)) for s in (1, -1)]
    if chance(r, 0.3) and style != "sport":
        extras += [
            rod(
                (0.25 * half, s * 0.28 * width, waist + roof + 0.05),
                (start * half + 0.2, s * 0.28 * width, waist + roof + 0.05),
                0.02,
            )
            for s in (1, -1)
        ]
    extras += [
        ball((0.04, 0.06, 0.04), (end * half - 0.05, s * (0.5 * width + 0.03), waist + 0.05)) for s in (1, -1)
    ]
    return {"body": [loft(rings)], "cabin": [loft(cabin_rings)], "wheels": wheels, "details": extras}


def rocket(r: Random) -> Parts:
    radius, height = r.uniform(0.14, 0.32), r.uniform(1.2, 1.9)
    tip = r.uniform(0.3, 0.75)
    belly = radius * r.uniform(0.75, 1.25)
    start = 0.15
    body = lathe(
        smooth(
            [
                [0.75 * radius, start],
                [radius, start + 0.1],
                [belly, start + 0.5 * height],
                [radius, start + height],
            ],
            2,
        ),
        40,
    )
    top = start + height
    if chance(r, 0.6):
        nose = lathe(
            smooth(
                [
                    [radius, top],
                    [0.95 * radius, top + 0.4 * tip],
                    [0.4 * radius, top + 0.8 * tip],
                    [0.005, top + tip],
                ],
                3,
            ),
            40,
        )
    else:
        nose = lathe([[1.05 * radius, top], [0.005, top + tip]], 40)
    count, reach = int(r.integers(3, 6)), r.uniform(0.2, 0.5)
    corner = np.array(
        [
            [0.6 * radius, start],
            [radius + reach, start - r.uniform(0, 0.25)],
            [radius + reach, start + 0.2],
            [0.6 * radius, start + r.uniform(0.4, 0.7)],
        ]
    )
    fin = move(slab(corner, -0.025, 0.025), turn=(np.pi / 2, 0, 0))
    fins = [move(fin, turn=(0, 0, 2 * np.pi * k / count)) for k in range(count)]
    boosters: list[Piece] = []
    if chance(r, 0.35):
        thin, tall = 0.45 * radius, r.uniform(0.4, 0.75) * height
        single = lathe(
            smooth(
                [
                    [0.8 * thin, 0.1],
                    [thin, 0.14],
                    [thin, tall],
                    [0.6 * thin, tall + 0.15],
                    [0.005, tall + 0.25],
                ],
                2,
            ),
            24,
        )
        pairs = int(r.choice([2, 4]))
        boosters = [
            move(single, ((radius + thin) * np.cos(a), (radius + thin) * np.sin(a), 0))
            for a in np.arange(pairs) * 2 * np.pi / pairs + 0.4
        ]
    windows: list[Piece] = []
    if chance(r, 0.4):
        for k in range(int(r.integers(1, 4))):
            windows.append(
                move(
                    lathe(
                        [
                            [0.35 * radius, 0],
                            [0.35 * radius, 0.06],
                            [0.28 * radius, 0.06],
                            [0.28 * radius, 0.03],
                        ],
                        20,
                    ),
                    (0.95 * radius, 0, top - 0.25 - 0.28 * k),
                    (0, np.pi / 2, 0),
                )
            )
    nozzle = vessel([[0.85 * radius, 0], [0.45 * radius, start + 0.03]], 0.02, 28)
    return {
        "body": [body],
        "nose": [nose],
        "fins": fins,
        "boosters": boosters,
        "nozzle": [nozzle],
        "windows": windows,
    }


def guitar(r: Random) -> Parts:
    length, neck, thick = r.uniform(0.85, 1.05), r.uniform(0.7, 1.0), r.uniform(0.08, 0.22)
    lower, waist, upper = r.uniform(0.36, 0.46), r.uniform(0.2, 0.3), r.uniform(0.26, 0.38)
    electric = chance(r, 0.35)
    side = np.array(
        [
            [0.0, -0.12],
            [lower, 0.0],
            [lower, 0.35 * length],
            [waist, 0.6 * length],
            [upper, 0.72 * length],
            [upper, length],
            [0.08, length],
        ]
    )
    left = side.copy()
    if electric:
        thick *= 0.5
        side[-3:] = [[0.9 * upper, 0.75 * length], [upper, 1.08 * length], [0.08, 0.84 * length]]
        left[-3:] = [[0.9 * upper, 0.75 * length], [upper, 1.2 * length], [0.08, 0.84 * length]]
    elif chance(r, 0.3):
        side[-3:] = [[1.1 * upper, 0.75 * length], [upper, 0.95 * length], [0.08, 0.8 * length]]
    outline = np.concatenate([smooth(side, 3), (smooth(left, 3) * (-1, 1))[::-1]])
    body = slab(outline - (0, 0.55 * length), -thick, 0, 0.02)
    body = move(body, (0, 0.55 * length, 0))
    nut = length + neck
    strings = [
        rod((x, 0.22 * length, 0.05), (0.7 * x, nut + 0.05, 0.05), 0.006, sides=6)
        for x in np.linspace(-0.05, 0.05, int(r.choice([4, 6])))
    ]
    head = slab(
        [[-0.06, nut], [0.06, nut], [0.1, nut + 0.25], [-0.1, nut + 0.25 + r.uniform(-0.08, 0.08)]],
        -0.02,
        0.03,
    )
    pegs = [
        rod((s * 0.06, nut + y, 0), (s * 0.15, nut + y, 0), 0.022, sides=8)
        for s in ((1, -1) if chance(r, 0.7) else (-1,))
        for y in (0.07, 0.14, 0.21)
    ]
    fittings: list[Piece] = [box((0.22, 0.05, 0.05), (0, 0.22 * length, 0.02), 0.01)]
    if electric:
        fittings += [box((0.18, 0.06, 0.03), (0, y * length, 0.01), 0.01) for y in (0.38, 0.58)]
        fittings += [lathe(np.array([[0.03, 0], [0.03, 0.05]]) + (0, 0), 14)]
        fittings[-1] = move(fittings[-1], (0.6 * lower, 0.18 * length, 0))
    else:
        fittings.append(
            move(plate(circle(0.15, 32), circle(0.115, 32), -0.005, 0.014), (0, 0.62 * length, 0))
        )
    parts: Parts = {
        "body": [body],
        "neck": [
            box((0.12, neck + 0.35 * length, 0.06), (0, length + neck / 2 - 0.17 * length, 0.015), 0.01)
        ],
        "head": [head, *pegs],
        "strings": strings,
        "fittings": fittings,
    }
    stand = (np.pi / 2 - (0.0 if chance(r, 0.5) else r.uniform(0, 0.3)), 0, 0)
    if chance(r, 0.25):
        stand = (0, 0, 0)
    return {name: [move(piece, turn=stand) for piece in pieces] for name, pieces in parts.items()}


def house(r: Random) -> Parts:
    width, depth, height = r.uniform(0.9, 1.6), r.uniform(0.8, 1.2), r.uniform(0.5, 1.2)
    rise, over = r.uniform(0.2, 0.7), r.uniform(0.04, 0.15)
    walls, roof, openings, extras = [box((width, depth, height), (0, 0, height / 2))], [], [], []
    style = r.choice(["gable", "gable", "hip", "flat"])
    if style == "gable":
        walls.append(
            move(
                slab([[-depth / 2, 0], [depth / 2, 0], [0, rise]], -width / 2, width / 2),
                (0, 0, height),
                (np.pi / 2, 0, np.pi / 2),
            )
        )
        slope = np.arctan2(rise, depth / 2)
        wide = np.hypot(rise, depth / 2) + over
        for s in (1, -1):
            sheet = box((width + 2 * over, wide, 0.05), (0, s * wide / 2, 0.02))
            roof.append(move(sheet, (0, 0, height + rise), (-s * slope, 0, 0)))
    elif style == "hip":
        base = rectangle(width + 2 * over, depth + 2 * over)
        ridge = base * (0.35 if chance(r, 0.6) else 0.01, 0.01)
        roof.append(
            loft([level(base, height - 0.03), level(base, height + 0.02), level(ridge, height + rise)])
        )
    else:
        roof.append(box((width + over, depth + over, 0.07), (0, 0, height + 0.035)))
        if chance(r, 0.5):
            roof.append(box((0.5 * width, 0.6 * depth, 0.3), (0.1 * width, 0, height + 0.2)))
    if chance(r, 0.6) and style != "flat":
        extras.append(
            box((0.14, 0.14, 0.5), (width * r.uniform(-0.35, 0.35), depth * 0.2, height + 0.75 * rise))
        )
    if chance(r, 0.35):
        extras.append(
            box((width * 0.5, 0.5, height * 0.6), (width * r.choice([-0.75, 0.75]), 0.1, height * 0.3))
        )
        roof.append(box((width * 0.56, 0.56, 0.05), (extras[-1][0][:, 0].mean(), 0.1, height * 0.62)))
    floors = 1 if height < 0.8 else 2
    count = int(r.integers(2, 4))
    for s in (1, -1):
        for floor in range(floors):
            for x in (np.arange(count) - (count - 1) / 2) * width / count:
                z = height * (floor + 0.55) / floors
                if (
                    floor == 0
                    and s < 0
                    and abs(x - width * 0.5 * (count - 1) / count * (-1) ** count) < 0.3 * width / count
                ):
                    openings.append(box((0.2, 0.1, 0.36), (x, s * depth / 2, 0.18)))
                else:
                    frame_of = plate(rectangle(0.22, 0.22), rectangle(0.15, 0.15), 0, 0.06)
                    openings.append(move(frame_of, (x, s * depth / 2 + 0.03, z), (np.pi / 2, 0, 0)))
    return {"walls": walls, "roof": roof, "openings": openings, "extras": extras}
