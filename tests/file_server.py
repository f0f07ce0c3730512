"""A small file server on this machine, with the faults that real ones have."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What is served, and what was asked for.

    Attributes:
        files: Path to content.
        ranges: Whether `Range` is answered.
        cuts: After how many bytes of the body each of the next connections breaks.
        lengths: Whether `Content-Length` is told.
        requests: (path, first byte asked for) of each request.
        served: Bytes of bodies that were sent.
    """

    files: dict[str, bytes]
    base: str = ""
    ranges: bool = True
    lengths: bool = True
    cuts: list[int] = field(default_factory=list)
    requests: list[tuple[str, int]] = field(default_factory=list)
    served: int = 0


@contextmanager
def serving(files: dict[str, bytes]) -> Iterator[FileServer]:
    """Serve ``files`` for as long as the block runs."""
    state = FileServer(files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range", "bytes=0-")
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            state.requests.append((self.path, start))
            content = state.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            ranged = state.ranges and "Range" in self.headers
            if ranged and start >= len(content):
                self.send_error(416)
                return
            body = content[start:] if ranged else content
            self.send_response(206 if ranged else 200)
            if ranged:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if state.lengths:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            sent = body[: state.cuts.pop(0)] if state.cuts else body
            state.served += len(sent)  # counted first: the client may be done before the next line
            self.wfile.write(sent)

        def log_message(self, *_: object) -> None:
            """Keep the terminal quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    state.base = f"http://127.0.0.1:{server.server_port}"
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
