"""One of so many parts of the shapes, so that as many processes or machines share the work on one library."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

from crosshape.errors import UsageError

MOST = 65_536


@dataclass(frozen=True)
class Part:
    """Part `number` (from 1) of `count`. A shape is in the same part wherever it is asked, by its name alone."""

    number: int
    count: int

    def __contains__(self, name: object) -> bool:
        return zlib.crc32(str(name).encode("utf-8", "surrogatepass")) % self.count == self.number - 1


def parse_part(text: str | None) -> Part | None:
    """ "3/8" -> the third of eight parts; None for None. Raises UsageError for anything else."""
    if text is None:
        return None
    number, _, count = text.partition("/")
    try:
        part = Part(int(number), int(count))
    except ValueError:
        raise UsageError(
            f"--part {text}: write K/N, as in --part 3/8 for the third of eight parts."
        ) from None
    if not 1 <= part.number <= part.count <= MOST:
        raise UsageError(f"--part {text}: the first number is from 1 to the second, that at most {MOST:,}.")
    return part
