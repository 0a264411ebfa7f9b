"""An object store in memory: what fsspec and TensorStore take for Google's.

It keeps whole objects under names. There is no append and no rename of a folder; a folder is where
names begin alike.
"""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, unquote, urlparse

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class Objects(MemoryFileSystem):
    """fsspec's side: `gs://bucket/name` is `/bucket/name` in memory."""

    protocol = ("gs", "gcs")
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]
    cachable = False

    @classmethod
    def _strip_protocol(cls, path):
        path = path if isinstance(path, str) else str(path)
        return MemoryFileSystem._strip_protocol(
            "memory://" + path.removeprefix("gcs://").removeprefix("gs://").lstrip("/")
        )

    def _open(self, path, mode="rb", **options):
        if "a" in mode:
            raise OSError(f"{path}: objects cannot be appended to")
        return super()._open(path, mode=mode, **options)


class Handler(BaseHTTPRequestHandler):
    """TensorStore's side: as much of the JSON interface as it uses."""

    protocol_version = "HTTP/1.1"
    generations: ClassVar[dict] = {}
    lock = threading.RLock()

    def log_message(self, *arguments):
        pass

    def _answer(self, code, body=b"", **headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _asked(self):
        url = urlparse(self.path)
        parts = url.path.split("/b/", 1)[1].split("/o", 1)
        name = unquote(parts[1].removeprefix("/")) if len(parts) > 1 else ""
        return (
            unquote(parts[0]),
            name,
            {key: values[0] for key, values in parse_qs(url.query).items()},
        )

    def _blocked(self, path, query):
        """Whether a condition on the object's generation does not hold."""
        wanted = query.get("ifGenerationMatch")
        return wanted is not None and int(wanted) != self._generation(path)

    def _generation(self, path):
        return self.generations.setdefault(path, 1) if path in Objects.store else 0

    def do_GET(self):
        bucket, name, query = self._asked()
        with self.lock:
            if not name:
                return self._list(bucket, query)
            path = f"/{bucket}/{name}"
            if path not in Objects.store:
                return self._answer(404)
            generation = self._generation(path)
            if query.get("ifGenerationNotMatch") == str(generation):
                return self._answer(304)
            if self._blocked(path, query):
                return self._answer(412)
            data = Objects.store[path].getvalue()
        if query.get("alt") != "media":
            return self._answer(
                200,
                json.dumps(
                    {"name": name, "size": str(len(data)), "generation": str(generation)}
                ).encode(),
            )
        if (asked := self.headers.get("Range")) is None:
            return self._answer(200, data, x_goog_generation=generation)
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start = int(first) if first else max(0, len(data) - int(last))
        stop = min(int(last) + 1 if first and last else len(data), len(data))
        if start >= len(data):
            return self._answer(416)
        content = f"bytes {start}-{stop - 1}/{len(data)}"
        return self._answer(
            206, data[start:stop], x_goog_generation=generation, Content_Range=content
        )

    def _list(self, bucket, query):
        start = f"/{bucket}/"
        names = sorted(
            path.removeprefix(start)
            for path in Objects.store
            if path.startswith(start + query.get("prefix", ""))
        )
        names = [
            name
            for name in names
            if query.get("startOffset", "") <= name
            and (not query.get("endOffset") or name < query["endOffset"])
        ]
        items = [
            {
                "name": name,
                "size": str(Objects.store[start + name].getbuffer().nbytes),
                "generation": "1",
            }
            for name in names
        ]
        return self._answer(200, json.dumps({"items": items}).encode())

    def do_POST(self):
        bucket, _, query = self._asked()
        data = self.rfile.read(int(self.headers["Content-Length"]))
        path = f"/{bucket}/{query['name']}"
        with self.lock:
            if self._blocked(path, query):
                return self._answer(412)
            generation = self._generation(path) + 1
            with Objects().open(path, "wb") as file:
                file.write(data)
            self.generations[path] = generation
        body = {
            "name": query["name"],
            "generation": str(generation),
            "size": str(len(data)),
            "bucket": bucket,
        }
        return self._answer(200, json.dumps(body).encode())

    def do_DELETE(self):
        bucket, name, query = self._asked()
        path = f"/{bucket}/{name}"
        with self.lock:
            if path not in Objects.store:
                return self._answer(404)
            if self._blocked(path, query):
                return self._answer(412)
            Objects().rm_file(path)
        return self._answer(204)


def opened() -> Iterator[tuple[type[Objects], dict[str, str]]]:
    """Serves an empty store; yields it, and the environment in which TensorStore finds it."""
    Objects.store.clear()
    for name in ("gs", "gcs"):
        fsspec.register_implementation(name, Objects, clobber=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield (
            Objects,
            {"TENSORSTORE_GCS_HTTP_URL": address, "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none"},
        )
    finally:
        server.shutdown()
        server.server_close()
