"""Errors over HTTP as RFC 9457 wants them: application/problem+json, in words a person can act on."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import JSONResponse


class Problem(Exception):
    """An answer that is an error: its status, its kind (a stable word), and what happened and what to do."""

    def __init__(
        self,
        status: int,
        kind: str,
        detail: str,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail = status, kind, detail
        self.headers, self.more = dict(headers or {}), more

    def response(self, instance: str | None = None) -> JSONResponse:
        """The answer; instance: the path that was asked for."""
        body = {
            "type": f"urn:crosshape:problem:{self.kind}",
            "title": self.kind.replace("-", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            **self.more,
        }
        if instance is not None:
            body["instance"] = instance
        return JSONResponse(
            body,
            self.status,
            {"Cache-Control": "no-store", **self.headers},
            media_type="application/problem+json",
        )


def plain(status: int, detail: str | None = None, headers: Mapping[str, str] | None = None) -> Problem:
    """The problem that says no more than its status does."""
    phrase = HTTPStatus(status).phrase
    return Problem(status, phrase.lower().replace(" ", "-"), detail or phrase, headers)
