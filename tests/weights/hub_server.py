"""A server of files on the loopback address, as Hugging Face's hub and as a plain site.

`/OWNER/NAME/resolve/main/FILE` is a file of a repository with the headers that huggingface_hub
reads; every other path is a plain file. It serves ranges.
"""

import hashlib
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class HubServer(ThreadingHTTPServer):
    """The server with its files and faults.

    Attributes:
      files: Path -> content.
      faults: Path -> an HTTP status, `cut` (the connection ends after half of the bytes) or `slow`
        (no byte follows the headers).
      requests: (method, path, range) of each request.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, int | str] = {}
        self.requests: list[tuple[str, str, str]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def count(self, method: str, path: str) -> int:
        return sum(one[:2] == (method, path) for one in self.requests)


class _Handler(BaseHTTPRequestHandler):
    server: HubServer

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        wanted = self.headers.get("Range", "")
        self.server.requests.append((self.command, self.path, wanted))
        fault, content = self.server.faults.get(self.path), self.server.files.get(self.path)
        if isinstance(fault, int) or content is None:
            self._send_headers(fault if isinstance(fault, int) else 404, 0)
            return
        begin = int(wanted.removeprefix("bytes=").split("-")[0] or 0) if wanted else 0
        if begin >= len(content):
            self._send_headers(416, 0)
            return
        more = {"Accept-Ranges": "bytes"}
        if wanted:
            more["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        if "/resolve/" in self.path:
            is_large = self.path.endswith(".safetensors")
            blob = f"blob {len(content)}\0".encode() + content
            digest = hashlib.sha256(content) if is_large else hashlib.sha1(blob)
            more |= {
                "ETag": f'"{digest.hexdigest()}"',
                "X-Repo-Commit": self._hash_repository(),
            }
        self._send_headers(206 if wanted else 200, len(content) - begin, more)
        if with_body and fault == "slow":
            time.sleep(5)
        elif with_body:
            rest = content[begin:]
            self.wfile.write(rest[: len(rest) // 2] if fault == "cut" else rest)

    def _hash_repository(self) -> str:
        folder = self.path.rpartition("/")[0]
        own = sorted(item for item in self.server.files.items() if item[0].startswith(folder))
        return hashlib.sha1(repr(own).encode()).hexdigest()

    def _send_headers(self, status: int, length: int, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(length), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()


@contextmanager
def serve():
    """Runs a server, and stops it at the end."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
