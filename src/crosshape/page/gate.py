"""The gate every request passes: who asks, from where, how often, how much; and the headers of every answer.

The rules, in order: the Host header names this server; another site's page asks for nothing; a token where
there is one; a rate for each client; so many requests at once; a body of a limited size that arrives in time.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

from starlette.datastructures import Headers
from starlette.requests import cookie_parser
from starlette.responses import Response

from crosshape.page.metrics import Metrics
from crosshape.page.problems import Problem

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
"""On every answer, whatever it is."""

INTERNAL = Problem(
    500, "internal-error", "The server failed at this; its terminal says why. The library was not changed."
)

UPLOADS = "/search"
"""Where uploads go: only there a body may be large."""

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
SAFE = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class GateSettings:
    """Who may ask, and how much."""

    host: str = "127.0.0.1"
    names: tuple[str, ...] = ()
    """Host names, besides those of this machine, by which the server is reached."""
    token: str | None = None
    per_second: float = 400.0
    """Requests a client may make in the long run, thumbnails included."""
    burst: int = 2000
    uploads_per_minute: float = 60.0
    upload_burst: int = 20
    at_once: int = 256
    """Requests answered at the same time."""
    max_body: int = 64 << 10
    max_upload: int = 128 << 20
    body_seconds: float = 120.0
    """Time a body may take to arrive."""


class Bucket:
    """Tokens by client: `burst` at first, refilled at a rate; who has none left waits."""

    def __init__(self, per_second: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_second, self.burst, self.clock = per_second, burst, clock
        self._left: dict[str, tuple[float, float]] = {}

    def wait(self, client: str) -> float:
        """The seconds until `client` may take one, 0 where it may now; nothing is taken."""
        left, then = self._left.get(client, (self.burst, self.clock()))
        return max(0.0, (1 - left) / self.per_second - (self.clock() - then))

    def take(self, client: str) -> float:
        """Take one; the seconds to wait where there is none, else 0."""
        now = self.clock()
        left, then = self._left.get(client, (self.burst, now))
        left = min(self.burst, left + (now - then) * self.per_second)
        if left < 1:
            self._left[client] = (left, now)
            return (1 - left) / self.per_second
        self._left[client] = (left - 1, now)
        if len(self._left) > 4096:
            full = self.burst - 1e-9
            self._left = {
                who: (had, at)
                for who, (had, at) in self._left.items()
                if had + (now - at) * self.per_second < full
            }
        return 0.0


class Gate:
    """ASGI middleware around the application; see the module's docstring for its rules."""

    def __init__(
        self, app: Any, settings: GateSettings, metrics: Metrics, clock: Any = time.monotonic
    ) -> None:
        self.app, self.settings, self.metrics = app, settings, metrics
        self.requests = Bucket(settings.per_second, settings.burst, clock)
        self.uploads = Bucket(settings.uploads_per_minute / 60, settings.upload_burst, clock)
        self.refusals = Bucket(0.2, 10, clock)
        self.open = 0
        self.loopback = is_loopback(settings.host)
        self.names = {"localhost", settings.host.lower(), *(name.lower() for name in settings.names)}
        if not self.loopback:
            self.names.add(socket.gethostname().lower())

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        begun, status, started = time.monotonic(), 500, False
        # HEAD is GET whose body is not sent; the headers, Content-Length among them, are the same.
        head = scope["method"] == "HEAD"
        asked = {**scope, "method": "GET"} if head else scope

        async def answer(message: Any) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                own = {name for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *((k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in own),
                ]
            elif head and message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        self.open += 1
        try:
            early = self.check(asked)
            if early is None:
                limited = self.limited(asked, receive)
                await self.app(asked, limited, answer)
            else:
                await early(asked, receive, answer)
        except Problem as problem:
            if not started:
                await problem.response(scope["path"])(scope, receive, answer)
        except Exception:
            if not started:
                await INTERNAL.response(scope["path"])(scope, receive, answer)
            raise
        finally:
            self.open -= 1
            route = getattr(asked.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self.metrics.count(method, route, status, time.monotonic() - begun)

    def check(self, scope: dict[str, Any]) -> Response | None:
        """Raise Problem for what may not pass; an answer where the gate itself has one."""
        headers, method, path = Headers(scope=scope), scope["method"], scope["path"]
        host = headers.get("host", "")
        if not self.knows(host):
            words = "This server is not known by that name. Start it with --name to reach it so."
            raise Problem(421, "unknown-host", words)
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        foreign = site in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate"
        if origin is not None and place_of(origin) != host.lower():
            foreign = True
        if site in ("cross-site", "same-site") and method not in SAFE:
            foreign = True
        if foreign:
            raise Problem(403, "other-site", "Pages of other sites may not use this server.")
        # Only now: what pages of other sites send must not use up what the user's own page may ask.
        client = (scope.get("client") or ("local", 0))[0]
        wait = self.requests.take(client)
        if wait:
            raise _slower(wait)
        if self.open > self.settings.at_once:
            words = f"{self.open - 1} requests are being answered. Try again in a moment."
            raise Problem(503, "too-many-at-once", words, {"Retry-After": "1"})
        early = self.admit(scope, headers, path, client)
        if early is None and method == "POST":
            wait = self.uploads.take(client)
            if wait:
                raise _slower(wait)
        return early

    def knows(self, host: str) -> bool:
        """Whether a Host header names this server: no other name can be pointed at it by another site."""
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        if not name or "@" in host or "/" in host:
            return False
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # An address cannot be made to mean another machine, as a name can.
        return address.is_loopback if self.loopback else True

    def admit(self, scope: dict[str, Any], headers: Headers, path: str, client: str) -> Response | None:
        """Raise Problem 401 where the token is not given; ?token= becomes a cookie and leaves the address."""
        token = self.settings.token
        if token is None or path == "/healthz":
            return None
        given = headers.get("authorization", "").removeprefix("Bearer ").strip()
        query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
        asked = query.pop("token", [""])[0]
        name = cookie_of(headers.get("host", ""))
        kept = cookie_parser(headers.get("cookie", "")).get(name, "")
        passed = same(kept, pass_of(token))
        # Who has guessed too often is not answered, not even rightly; a browser that is in stays in.
        wait = 0.0 if passed else self.refusals.wait(client)
        if wait and (given or asked):
            raise _slower(wait)
        if scope["method"] == "GET" and same(asked, token):
            rest = urlencode(query, doseq=True)
            # A path of two slashes would be another machine's address.
            where = quote("/" + path.lstrip("/\\"), safe="/%:@!$&'()*+,;=~") + (f"?{rest}" if rest else "")
            return Response(
                status_code=303,
                headers={
                    "Location": where,
                    "Cache-Control": "no-store",
                    "Set-Cookie": f"{name}={pass_of(token)}; Path=/; HttpOnly; SameSite=Lax",
                },
            )
        if passed or same(given, token):
            return None
        # A cookie alone is no guess: it may be of an earlier server here, and every picture of the page sends it.
        if given or asked:
            wait = self.refusals.take(client)
            if wait:
                raise _slower(wait)
        words = "This library needs its token: open the address that crosshape serve printed, or send it as "
        raise Problem(
            401, "token-needed", words + "Authorization: Bearer TOKEN.", {"WWW-Authenticate": "Bearer"}
        )

    def limited(self, scope: dict[str, Any], receive: Any) -> Any:
        """receive, which raises Problem once a body is too large or too slow."""
        uploads = scope["method"] == "POST" and scope["path"] == UPLOADS
        most = self.settings.max_upload if uploads else self.settings.max_body
        large = Problem(413, "too-large", f"The limit is {size_text(most)}.", limit=most)
        stated = Headers(scope=scope).get("content-length", "0")
        if not stated.isascii() or not stated.isdigit():
            raise Problem(400, "bad-request", "The Content-Length is no number.")
        if len(stated) > 18 or int(stated) > most:
            raise large
        got, deadline = 0, time.monotonic() + self.settings.body_seconds
        done = False

        async def count() -> Any:
            nonlocal got, done
            if done:
                return await receive()
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                words = f"The body took longer than {self.settings.body_seconds:g} s."
                raise Problem(408, "too-slow", words, {"Connection": "close"}) from None
            if message["type"] == "http.request":
                got += len(message.get("body", b""))
                done = not message.get("more_body", False)
                if got > most:
                    raise large
            return message

        return count


def place_of(origin: str) -> str | None:
    """The host and port of an Origin header; None where it is no address."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what binds here."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def cookie_of(host: str) -> str:
    """The cookie's name at a host and port: browsers send a host's cookies to all its ports, where others may serve."""
    port = host.rpartition(":")[2]
    return f"crosshape-{port}" if port.isascii() and port.isdigit() else "crosshape"


def pass_of(token: str) -> str:
    """What the cookie holds: made of the token, not the token itself."""
    return hashlib.sha256(b"crosshape page " + token.encode()).hexdigest()


def same(one: str, other: str) -> bool:
    """Whether two texts are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(one.encode(), other.encode())


def size_text(count: int) -> str:
    """Bytes in words: 64 kB, 128 MB."""
    for unit, size in (("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count} bytes"


def _slower(wait: float) -> Problem:
    seconds = max(1, round(wait + 0.5))
    words = f"Too many requests from this address. Try again in {seconds} s."
    return Problem(429, "too-many-requests", words, {"Retry-After": str(seconds)})
