"""Photographs as queries: which cleaning finds shapes of the right class, and can it say "nothing like this here"?

    python results/search/photos.py meshes.lance PHOTOS [RUN]

PHOTOS holds pictures named for what they show; CLASSES says which class folders of the library are right for
them. For each cleaning: share of pictures with a right class first, among the first ten, and by chance; area
under the curve (ROC) of the best score between pictures whose class the library has, and the same pictures when all
shapes of that class are left out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from crosshape.console import print_table
from crosshape.library.library import open_library
from crosshape.search.pictures import CLEANUPS, read_picture
from crosshape.search.query import best_views, encode_picture, gallery, library_model, usual_scores

CLASSES = {
    "acoustic_guitar electric_guitar": "Guitar Musical_Instrument",
    "airliner warplane": "Jet Monoplane",
    "assault_rifle rifle": "SubmachineGun Gun",
    "revolver": "Gun",
    "barber_chair folding_chair rocking_chair throne": "NonWheelChair",
    "beer_bottle water_bottle wine_bottle": "Bottle",
    "cellular_telephone": "Cellphone",
    "dial_telephone": "DeskPhone",
    "coffee_mug cup measuring_cup": "Mug Cup",
    "computer_keyboard": "ComputerKeyboard",
    "convertible minivan racer sports_car pickup": "Car",
    "garbage_truck trailer_truck": "Truck TruckNonContainer",
    "school_bus": "Bus",
    "bullet_train electric_locomotive steam_locomotive": "Train",
    "desk dining_table": "RectangleTable",
    "four-poster": "Bed",
    "grand_piano upright": "ClassicPiano PianoBoard",
    "laptop": "Computer",
    "monitor screen television": "Monitor",
    "motor_scooter": "Motorcycle",
    "mountain_bike": "Bicycle",
    "park_bench studio_couch": "MultiSeat",
    "schooner speedboat": "Ship",
    "space_shuttle": "Starship Rocket",
    "table_lamp": "DeskLamp",
    "tank": "MilitaryVehicle",
    "vase": "Vase",
    "violin": "Violin Musical_Instrument",
    "bookcase china_cabinet wardrobe": "Shelf",
    "drum steel_drum": "Drum",
}


def main() -> None:
    library = open_library(sys.argv[1])
    shapes, labels = gallery(library), np.array(library.labels())
    model = library_model(library, shapes.model, sys.argv[3] if len(sys.argv) > 3 else None)
    right = {stem: set(classes.split()) for stems, classes in CLASSES.items() for stem in stems.split()}
    files = [path for path in sorted(Path(sys.argv[2]).iterdir()) if path.stem in right]
    mine = np.stack([np.isin(labels, list(right[path.stem])) for path in files])
    kept = mine.any(axis=1)
    files, mine = [path for path, keep in zip(files, kept, strict=True) if keep], mine[kept]
    usual = usual_scores(library, shapes, "views", True)
    rows = []
    for cleanup in CLEANUPS:
        asked = np.stack(
            [
                encode_picture(read_picture(p, library.settings.image_size, cleanup), model).picture
                for p in files
            ]
        )
        scores = best_views(library, asked)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        hits = np.take_along_axis(mine, order, axis=1)
        there, gone = scores.max(axis=1), np.where(mine, -1, scores).max(axis=1)
        wins = (there[:, None] > gone[None]).mean() + 0.5 * (there[:, None] == gone[None]).mean()
        low = usual.low if usual else -1.0
        rows.append(
            [
                cleanup,
                hits[:, 0].mean(),
                hits.any(axis=1).mean(),
                wins,
                (there < low).mean(),
                (gone < low).mean(),
            ]
        )
    chance = mine.mean(axis=1)
    rows.append(["by chance", chance.mean(), (1 - (1 - chance) ** 10).mean(), 0.5, None, None])
    print(f"{len(files)} pictures")
    head = ["cleaning", "right first", "in ten", "ROC there/gone", "nothing, there", "nothing, gone"]
    print_table(head, [[v if v is None or isinstance(v, str) else float(v) for v in row] for row in rows])


if __name__ == "__main__":
    main()
