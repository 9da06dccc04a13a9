"""Where a library lies: a folder, or an address in object storage that Lance opens by itself."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from crosshape.errors import UsageError

STORES = ("s3", "gs", "az")
"""What an address begins with. Keys and endpoint are those of the environment (AWS_..., GOOGLE_..., AZURE_...)."""


@dataclass(frozen=True)
class Address:
    """A library in object storage: s3://BUCKET/NAME. It is no path, and nothing of it is on this machine."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part of the address."""
        return self.url.rsplit("/", 1)[1]


def located(library: str | os.PathLike[str] | Address) -> Path | Address:
    """A path, or the address that a text such as s3://bucket/parts.lance is.

    Raises UsageError for an address of another kind, or without bucket and name.
    """
    if isinstance(library, Address):
        return library
    text = os.fspath(library)
    scheme, found, rest = text.partition("://")
    if not found or "/" in scheme:
        return Path(text)
    parts = rest.rstrip("/").split("/")
    if scheme not in STORES:
        raise UsageError(f"{text}: a library lies in a folder, or at s3://, gs:// or az://.")
    if len(parts) < 2 or any(part in ("", ".", "..") for part in parts):
        raise UsageError(
            f"{text}: an address names a bucket and a library in it, {scheme}://BUCKET/NAME.lance."
        )
    return Address(f"{scheme}://{'/'.join(parts)}")


def beside(library: Path | Address, ending: str) -> Path:
    """The file on this machine that keeps what belongs to a library but is not in it, such as the marks of the page:
    beside the folder, or for an address below ~/.local/share/crosshape.
    """
    if isinstance(library, Path):
        return library.with_name(library.name + ending)
    home = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    file = Path(home, "crosshape", *library.url.replace("://", "/").split("/"))
    with contextlib.suppress(OSError):  # who writes there will be told
        file.parent.mkdir(parents=True, exist_ok=True)
    return file.with_name(file.name + ending)
