"""Writing so that a file is the old one or the new one, never half; reading JSON of strangers."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any


def check_place(path: str | os.PathLike[str]) -> None:
    """Raise OSError, with words, where no file can be written: no such folder, or a folder itself."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"there is no folder {path.parent}", str(path))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "that is a folder; name a file", str(path))


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
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
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
