"""An HTTP server on this machine that misbehaves as it is told."""

import hashlib
import re
import socket
import struct
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """How a request is answered.

    Attributes:
        content: the whole file.
        status: sent in place of 200 and 206.
        ranges: whether the server knows ranges.
        conditions: whether it knows If-Range.
        validators: whether it sends an ETag.
        cut: after so many bytes of the body the connection ends; -1: before any header.
        ending: how it ends then: "close", "reset", or "stall" for silence.
        pause: seconds before each tenth of the body.
        length: the declared length, if it is not the true one; "none" declares none.
        headers: others that are sent.
    """

    content: bytes = b""
    status: int = 200
    ranges: bool = True
    conditions: bool = True
    validators: bool = True
    cut: int | None = None
    ending: str = "close"
    pause: float = 0.0
    length: int | str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'


NOT_THERE = Answer(b"not here", status=404)


class Server:
    """Answers each request for a path with the next of its answers; the last one stays."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.busy: set[object] = set()
        self.busiest = 0
        """Who is answering at the time, and the most that were."""
        self._lock = threading.Lock()
        self.over = threading.Event()
        """Ends the connections that are silent now."""

    def __enter__(self) -> Self:
        outer = self

        class Handler(_Handler):
            server_state: Server = outer

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def serve(self, path: str, *answers: Answer) -> str:
        """Set the answers of a path, by default 404, and return its URL."""
        self.answers[path] = list(answers) or [NOT_THERE]
        return f"{self.url}{path}"

    def ranges(self, path: str) -> list[str | None]:
        """Return the Range header of each request for a path."""
        return [headers.get("range") for asked, headers in self.requests if asked == path]

    def asked(self, path: str) -> int:
        """Return how often a path was asked for."""
        return len(self.ranges(path))

    def next_answer(self, path: str, headers: dict[str, str], who: object) -> Answer:
        with self._lock:
            self.requests.append((path, headers))
            self.busy.add(who)
            self.busiest = max(len(self.busy), self.busiest)
            answers = self.answers.get(path, [NOT_THERE])
            return answers.pop(0) if len(answers) > 1 else answers[0]

    def answered(self, who: object) -> None:
        with self._lock:
            self.busy.discard(who)

    def release(self) -> None:
        """End the connections that are silent; later ones may be so again."""
        over, self.over = self.over, threading.Event()
        over.set()


class _Handler(BaseHTTPRequestHandler):
    server_state: Server

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        # As a proxy it is asked for whole URLs.
        path = urlsplit(self.path).path
        # Before the request is counted: who has seen it can end it.
        self.over = self.server_state.over
        answer = self.server_state.next_answer(path, headers, self)
        try:
            self.send(answer, headers)
        finally:
            self.server_state.answered(self)

    def send(self, answer: Answer, headers: dict[str, str]) -> None:
        if answer.cut == -1:
            self.end(answer)
            return
        start, status = 0, answer.status
        asked = re.fullmatch(r"bytes=(\d+)-", headers.get("range", ""))
        same = headers.get("if-range") in (None, answer.etag) or not answer.conditions
        if asked and answer.ranges and same and status == 200:
            start, status = int(asked[1]), 206
        whole = len(answer.content)
        if start >= whole and status == 206:
            status, start = 416, whole
        body = answer.content[start:]
        self.send_response(status)
        if answer.length != "none":
            self.send_header("Content-Length", str(answer.length or len(body)))
        if status == 206 and "Content-Range" not in answer.headers:
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        if answer.validators:
            self.send_header("ETag", answer.etag)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        sent = body if answer.cut is None else body[: answer.cut]
        step = -(-len(sent) // 10) if answer.pause else len(sent) or 1
        for place in range(0, len(sent), step or 1):
            time.sleep(answer.pause)
            if place + step >= len(sent):  # with the last byte the client may ask for more
                self.server_state.answered(self)
            self.wfile.write(sent[place : place + step])
            self.wfile.flush()
        if answer.cut is not None:
            self.end(answer)

    def end(self, answer: Answer) -> None:
        """End a connection in the way that the answer says."""
        self.close_connection = True
        if answer.ending == "stall":
            self.over.wait()
        if answer.ending == "reset":
            # Closing with no time to linger sends RST.
            option = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
            self.rfile.close()
            self.wfile.close()
            self.connection.close()

    def handle(self) -> None:
        with suppress(OSError, ValueError):  # the client, or we, have gone
            super().handle()

    def finish(self) -> None:
        with suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *arguments: Any) -> None:
        pass
