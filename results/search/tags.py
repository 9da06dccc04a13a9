"""How often proposed tags are right where five kinds of a library are labelled and some sixty are not.

    python results/search/tags.py REAL/meshes.lance

Five kinds are drawn four times and 3, 10 or 25 shapes of each labelled; then of every tag the ten best wrong
proposals are refused, as somebody on the page would.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np

from crosshape.console import print_table
from crosshape.library.library import open_library
from crosshape.search.tags import STATES, propose

DRAWS, KINDS, REFUSED = 4, 5, 10


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("library")
    library = open_library(parser.parse_args().library)
    names = np.array(library.names)
    kinds = np.array([name.split("/")[0] for name in names])
    truth = dict(zip(names, kinds, strict=True))
    rows = []
    for each in (3, 10, 25):
        counts: Counter[tuple[str, str, bool]] = Counter()
        unknown = []
        for draw in range(DRAWS):
            random = np.random.default_rng(draw)
            many = [kind for kind, count in Counter(kinds).items() if count >= max(each + 8, 14)]
            tags = sorted(random.permutation(many)[:KINDS])
            labels = {
                str(names[row]): str(tag)
                for tag in tags
                for row in random.permutation(np.flatnonzero(kinds == tag))[:each]
            }
            learned, proposals = propose(library, labels)
            unknown.append(learned[0].unknown)
            wrong = [one for one in proposals if one.state != STATES[-1] and truth[one.name] != one.tag]
            refused = {
                (one.name, one.tag)
                for tag in tags
                for one in [other for other in wrong if other.tag == tag][:REFUSED]
            }
            again = propose(library, labels, refused=refused)[1]
            for when, found in (("first", proposals), ("after refusals", again)):
                for one in found:
                    if (one.name, one.tag) not in refused or when == "first":
                        counts[when, one.state, truth[one.name] == one.tag] += 1
        for when in ("first", "after refusals"):
            cells = []
            for state in STATES[:2]:
                right, wrong_ones = counts[when, state, True], counts[when, state, False]
                share = f"{right / (right + wrong_ones):.2f}" if right + wrong_ones else "-"
                cells += [str(right + wrong_ones), share]
            rows.append([str(each), when, f"{min(unknown):.2f} to {max(unknown):.2f}", *cells])
    print_table(["labelled of a kind", "", "unknown", "ready", "right", "to review", "right"], rows)


if __name__ == "__main__":
    main()
