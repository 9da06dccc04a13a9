"""Writing so that a file is the old one or the new one, never half; reading JSON of strangers."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import stat
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from crosshape.errors import UsageError

TABLES = frozenset({".csv", ".tsv"})
"""Endings of tables."""

PAGES = frozenset({".html", ".htm"})
"""Endings of pages."""


def check_place(path: str | os.PathLike[str]) -> None:
    """Raise OSError, with words, where no file can be written: no such folder, or a folder itself."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"there is no folder {path.parent}", str(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "that is a folder; name a file", str(path))


def check_output(
    path: str | os.PathLike[str], kind: Collection[str], inputs: Sequence[str | os.PathLike[str]] = ()
) -> None:
    """Refuse a place for a table or a page that holds something else: a file of another kind, or one that is read.

    kind: TABLES or PAGES; a table replaces tables only, a page pages only. Raises UsageError, and what `check_place`
    raises.
    """
    path = Path(path)
    check_place(path)
    for one in inputs:
        with contextlib.suppress(OSError):
            if os.path.samefile(one, path):
                raise UsageError(
                    f"{path} is read by this command, and would be lost; name another file to write."
                )
    if path.is_file() and path.suffix.lower() not in kind and path.parent != Path("/dev"):
        what = "table" if kind == TABLES else "page"
        raise UsageError(f"{path} is there already, and no {what}; name another file to write.")


def write_whole(path: Path, content: bytes) -> None:
    """Write to a temporary name in the same folder, flush, rename. Raises OSError, leaving the old file.

    A link is followed; what is no regular file (a pipe, a device) is written to as it is.
    """
    check_place(path)
    if path.is_symlink():
        path = Path(os.path.realpath(path))
        check_place(path)
    if path.exists() and not path.is_file():
        path.write_bytes(content)
        return
    temporary = path.parent / f".{path.name}.{secrets.token_hex(6)}"
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        if path.exists():  # as private as it was
            os.fchmod(handle, stat.S_IMODE(path.stat().st_mode))
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:  # which does not know the name
            raise OSError(error.errno, error.strerror, str(path)) from None
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def parse_json(text: str | bytes) -> Any:
    """What a JSON text says. Raises ValueError for every text that says nothing, too deep a one as well."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("brackets within brackets, more than can be read") from None
