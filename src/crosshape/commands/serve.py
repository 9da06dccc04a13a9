"""Open a library as a web page, and as an HTTP API, on this machine.

    crosshape serve parts.lance
    crosshape serve parts.lance --head heads/parts
    crosshape serve parts.lance --host 0.0.0.0 --token "$(openssl rand -hex 16)"

The page: the shapes, a map of them, what is like a shape, a file or a picture that is dragged in, two shapes
side by side; the parts of a shape in colours, where --head names a head that crosshape segment learned. The API
is described at /openapi.json. Stop with Ctrl-C. Other machines get in only where --host lets them, and only
with the token.
"""

from __future__ import annotations

import argparse
import socket

PORT = 8765


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("library", metavar="LIBRARY", help="a library; searching wants it embedded")
    parser.add_argument(
        "--port", type=int, metavar="N", help=f"port (default: {PORT}, or a free one; 0: free)"
    )
    parser.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen at (default: %(default)s)"
    )
    parser.add_argument(
        "--token",
        metavar="TEXT",
        help="what others must know to get in, 16 or more characters; also from CROSSHAPE_TOKEN",
    )
    parser.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="HOST",
        help="a host name by which this server is reached, besides this machine's own; may be repeated",
    )
    parser.add_argument("--no-browser", action="store_true", help="open no browser")
    parser.add_argument(
        "--model", metavar="RUN", help="the run that embedded the library, where it was moved"
    )
    parser.add_argument("--head", metavar="HEAD", help="a head that knows parts (crosshape segment --learn)")


def run(options: argparse.Namespace) -> int:
    import os

    from crosshape.console import printable, say
    from crosshape.errors import UsageError
    from crosshape.page.gate import GateSettings, is_loopback
    from crosshape.places import located

    token = options.token or os.environ.get("CROSSHAPE_TOKEN") or None
    if token is None and not is_loopback(options.host):
        raise UsageError(
            f"--host {options.host} lets other machines in, and there is no token. "
            'Add --token "$(openssl rand -hex 16)"'
        )
    if token is not None and (len(token) < 16 or not token.isascii() or not token.isprintable()):
        raise UsageError("the token must be 16 or more plain characters, such as $(openssl rand -hex 16)")
    if options.port is not None and not 0 <= options.port < 1 << 16:
        raise UsageError(f"--port is {options.port}; it must be between 0 and 65535")
    listener = listen(options.host, options.port)
    try:
        import uvicorn

        from crosshape.page.server import create_app
        from crosshape.page.service import Service

        service = Service(located(options.library), options.model, head=options.head)
        try:
            if options.model:
                service.check_model()
            if options.head:
                service.check_head()
            settings = GateSettings(host=options.host, names=tuple(options.name), token=token)
            config = uvicorn.Config(
                create_app(service, settings),
                access_log=False,
                log_level="warning",
                proxy_headers=False,
                server_header=False,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=3,
                ws="none",
            )
            host, port = options.host, listener.getsockname()[1]
            shown = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
            address = f"http://{shown}:{port}/" + (f"?token={token}" if token else "")
            count = len(service.catalogue.snapshot)
            say(f"{printable(str(options.library))}, {count:,} shapes, is open at {address}")
            say("Stop with Ctrl-C.")
            if not options.no_browser:
                open_browser(address)
            uvicorn.Server(config).run(sockets=[listener])
        finally:
            service.close()
    finally:
        listener.close()
    return 0


def listen(host: str, port: int | None) -> socket.socket:
    """A socket that listens at a port, or at PORT if None, or at a free one where that is taken.

    Raises CrosshapeError where the address or the port cannot be had.
    """
    import errno

    from crosshape.errors import CrosshapeError

    try:
        family = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0][0]
    except OSError:
        raise CrosshapeError(f"{host} is no address of this machine. Try --host 127.0.0.1.") from None
    for wanted in (port,) if port is not None else (PORT, 0):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, wanted))
            listener.listen(1024)  # who asks before the server is ready waits
            return listener
        except OSError as error:
            listener.close()
            if error.errno == errno.EADDRINUSE and port is None:
                continue
            if error.errno == errno.EADDRINUSE:
                raise CrosshapeError(f"port {wanted} is taken. Choose another: --port 0") from None
            raise CrosshapeError(f"cannot listen at {host}, port {wanted}: {error.strerror}.") from None
    raise CrosshapeError(f"no port is free at {host}.")


def open_browser(address: str) -> None:
    """Show the page, where there is a screen; never an error."""
    import contextlib
    import os
    import sys
    import threading
    import webbrowser

    if sys.platform.startswith("linux") and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    ):
        return

    def show() -> None:
        with contextlib.suppress(Exception):
            webbrowser.open(address)

    timer = threading.Timer(0.5, show)
    timer.daemon = True
    timer.start()
