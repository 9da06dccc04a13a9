"""What a user can mend: every error says what, where and which value, then what to do."""

import difflib
import heapq
import shlex
from collections.abc import Iterable, Sequence


class CrosshapeError(Exception):
    """A problem the user can mend; its text names the problem and the next step (exit status 1)."""


class UsageError(CrosshapeError):
    """A command or a setting that cannot mean anything (exit status 2)."""


class UnreadableShape(CrosshapeError):
    """A file that gives no shape; `reason` says why, without the path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def command(*words: object) -> str:
    """A command of crosshape as it can be pasted: names with blanks in quotes."""
    return shlex.join(["crosshape", *map(str, words)])


SHORTLIST = 200
"""Names that are compared letter by letter with one that is not known: all of a large library take minutes."""


def nearest(wanted: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The known words that may be meant, best first: those that hold what was written, in any case, else alike ones."""
    words = sorted(known, key=lambda word: (len(word), word))
    folded = wanted.casefold()
    if holding := [word for word in words if folded and folded in word.casefold()]:
        return holding[:most]
    spelt = {word.casefold(): word for word in reversed(words)}
    return [spelt[word] for word in difflib.get_close_matches(folded, spelt, n=most)]


def nearest_name(name: str, names: Sequence[str]) -> str | None:
    """The name that was probably meant by one that is not among them; None where none is like it.

    Those that share most runs of three letters are compared; of equals the one that shares more.
    """
    runs = {name[i : i + 3] for i in range(min(len(name), 256) - 2)} or {name}
    shortlist = heapq.nlargest(SHORTLIST, names, key=lambda known: sum(run in known for run in runs))
    matcher = difflib.SequenceMatcher(None, b=name)
    best, least = None, 0.6
    for known in shortlist:
        matcher.set_seq1(known)
        if matcher.real_quick_ratio() >= least and matcher.quick_ratio() >= least:
            ratio = matcher.ratio()
            if ratio > least or (best is None and ratio == least):
                best, least = known, ratio
    return best


MOST_WORKERS = 1024
"""More processes than that is a slip of the finger."""


def check_count(option: str, value: int | None, most: int, least: int = 1) -> None:
    """Refuse a whole number that cannot be meant. Raises UsageError with the option's name."""
    if value is not None and not least <= value <= most:
        raise UsageError(f"{option} is {value}; it must be {least:,} to {most:,}.")
