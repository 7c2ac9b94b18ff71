"""A Hugging Face hub on this machine with one model, which counts the bytes that it sends."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "c" * 40


class FakeHub(ThreadingHTTPServer):
    """Serves `folder` as ``org/model``.

    Attributes:
        sent: file -> bytes of it that were sent.
        more: further entries of the list of files, as a hub that lies has them.
        silent: how paths end that are not answered until `over` is set.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder = folder
        self.sent: dict[str, int] = {}
        self.more: list[dict[str, object]] = []
        self.silent = "nowhere"
        self.over = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET(body=False)

    def do_GET(self, body: bool = True) -> None:
        path = self.path.partition("?")[0]
        if path.endswith(self.server.silent):
            self.server.over.wait(60)
            return
        files = sorted(f for f in self.server.folder.iterdir() if f.is_file())
        if path.startswith("/api/models/org/model/tree/"):
            tree = [{"type": "file", "path": f.name, "size": f.stat().st_size} for f in files]
            self._send(json.dumps([{**each, "oid": each["path"]} for each in tree]).encode(), body)
            return
        if path.startswith("/api/models/org/model"):
            names = [{"rfilename": f.name, "size": f.stat().st_size} for f in files]
            told = {"id": "org/model", "modelId": "org/model", "sha": COMMIT}
            self._send(json.dumps({**told, "siblings": names + self.server.more}).encode(), body)
            return
        file = self.server.folder / path.rpartition("/")[2]
        if not path.startswith("/org/model/resolve/") or not file.is_file():
            self.send_error(404)
            return
        content = file.read_bytes()
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{file.name}"', "Accept-Ranges": "bytes"}
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked:
            begin, end = int(asked[1]), int(asked[2] or len(content) - 1) + 1
            headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
            content = content[begin:end]
        if body:
            self.server.sent[file.name] = self.server.sent.get(file.name, 0) + len(content)
        self._send(content, body, 206 if asked else 200, headers)

    def _send(
        self, content: bytes, body: bool, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)
