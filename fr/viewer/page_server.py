"""The local server: static files and JSON, to this machine alone, reading only."""

import functools
import http.server
import json
import socket
import socketserver
import urllib.parse
from importlib import resources
from typing import Any

from fr.errors import UserError, first_line
from fr.viewer.lists import Viewer

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
# Nothing but the page's own files; no code and no markup from a text.
COMMON_POLICY = (
    "base-uri 'none'",
    "form-action 'none'",
    "require-trusted-types-for 'script'",
    "trusted-types 'none'",
)
_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "img-src 'self'",
    "connect-src 'self'",
    "frame-ancestors 'none'",
    *COMMON_POLICY,
)
_HEADERS = {
    "Content-Security-Policy": "; ".join(_POLICY),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_ANSWERS = ("run", "problems", "attempts", "regimes", "trace", "statistics")
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


@functools.cache
def static_files() -> dict[str, bytes]:
    """The files of the page by name."""
    folder = resources.files("fr.viewer").joinpath("static")
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}


class PageServer(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """One viewer on one port; each request has a thread."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, viewer: Viewer, host: str, port: int):
        """Listen.

        Args:
          viewer: answers.
          host: address to listen on.
          port: 0 for any free one.

        Raises:
          UserError: the port cannot be used.
        """
        self.viewer = viewer
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            super().__init__((host, port), _Handler)
        except OSError as error:
            raise UserError(
                f"--port={port}: {error.strerror or error}; use another one, or 0"
            ) from error
        self.names = {*_LOOPBACK, f"[{host}]" if ":" in host else host}
        self.any_name = host in ("0.0.0.0", "::")

    def server_bind(self) -> None:
        """Bind without a look-up of this machine's name, which may ask a network."""
        socketserver.TCPServer.server_bind(self)
        host, port = self.server_address[:2]
        self.server_name, self.server_port = str(host), port

    @property
    def url(self) -> str:
        """The address of the page."""
        host = str(self.server_name)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_port}/"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: PageServer
    server_version, sys_version = "fr", ""
    protocol_version, timeout = "HTTP/1.1", 60

    def do_GET(self) -> None:
        """Answer with a file of the page, or with JSON."""
        if not self._known_host():
            self._send(403, "text/plain", b"another host name")
            return
        parts = urllib.parse.urlsplit(self.path)
        name = parts.path.lstrip("/") or "index.html"
        if name.startswith("api/") and name[4:] in _ANSWERS:
            given = dict(urllib.parse.parse_qsl(parts.query, max_num_fields=40))
            self._send(*_json(self.server.viewer, name[4:], given))
        elif name in static_files():
            kind = _TYPES.get(name[name.rfind(".") :], "application/octet-stream")
            self._send(200, kind, static_files()[name])
        else:
            self._send(404, "text/plain", b"there is no such page")

    do_HEAD = do_GET

    def _known_host(self) -> bool:
        """Refuse names of other sites that were made to point here."""
        host = self.headers.get("Host", "").rpartition(":")
        name = host[0] if host[2].isdecimal() else "".join(host)
        return self.server.any_name or name in self.server.names

    def _send(self, code: int, kind: str, body: bytes) -> None:
        try:
            self.send_response(code)
            for name, value in _HEADERS.items():
                self.send_header(name, value)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the page asked for something else meanwhile

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: a request may hold any characters."""


def _json(viewer: Viewer, name: str, given: dict[str, str]) -> tuple[int, str, bytes]:
    kind = "application/json; charset=utf-8"
    try:
        return 200, kind, to_bytes(getattr(viewer, name)(given))
    except UserError as error:
        return 400, kind, to_bytes({"error": str(error)})
    except Exception as error:
        said = str(UserError(f"{type(error).__name__}: {first_line(error)}"))
        return 500, kind, to_bytes({"error": said})


def to_bytes(value: Any) -> bytes:
    """Strict JSON without spaces.

    Args:
      value: of plain types.

    Returns:
      UTF-8 text; characters that UTF-8 cannot hold are replaced.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace")
