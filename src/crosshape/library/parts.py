"""One of so many parts of the shapes, so that as many processes or machines share the work on one library."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass

from crosshape.errors import UsageError

MOST = 65_536


@dataclass(frozen=True)
class Part:
    """Part `number` (from 1) of `count`. Raises UsageError where that cannot be.

    Files belong to a part by their names alone, wherever they are asked. Rows of a library belong to it by their place,
    so that each part has its own of the files that a commit writes anew.
    """

    number: int
    count: int

    def __post_init__(self) -> None:
        whole = type(self.number) is int and type(self.count) is int
        if not whole or not 1 <= self.number <= self.count <= MOST:
            raise UsageError(
                f"part {self.number!r} of {self.count!r}: the first is from 1 to the second, that at most {MOST:,}."
            )

    def __contains__(self, name: object) -> bool:
        return zlib.crc32(str(name).encode("utf-8", "surrogatepass")) % self.count == self.number - 1

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def places(self, total: int) -> range:
        """The places of `total` rows that belong to this part: a stretch of them."""
        return range(total * (self.number - 1) // self.count, total * self.number // self.count)


def parse_part(text: str | Part | None) -> Part | None:
    """ "3/8" -> the third of eight parts; a Part and None as they are. Raises UsageError for anything else."""
    if text is None or isinstance(text, Part):
        return text
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", text) if isinstance(text, str) else None
    if not found:
        raise UsageError(f"part {text!r}: write K/N, as in 3/8 for the third of eight parts.")
    return Part(int(found[1]), int(found[2]))
