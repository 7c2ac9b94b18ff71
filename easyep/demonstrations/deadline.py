"""A request over HTTP that has ended by a deadline, however slowly the other side sends.

The time-outs of sockets count from the last byte: who sends one now and then is never late. Here
the connection itself is shut down when the time is over, whatever waits for it.
"""

import contextlib
import functools
import http.client
import socket
import threading
import urllib.request
from typing import Any

_USUAL: tuple[type[urllib.request.BaseHandler], ...] = (
    urllib.request.ProxyHandler,
    urllib.request.UnknownHandler,
    urllib.request.HTTPDefaultErrorHandler,
    urllib.request.HTTPRedirectHandler,
    urllib.request.HTTPErrorProcessor,
)


class Deadline:
    """Opens requests and ends their connections after `seconds`; a context manager.

    Attributes:
        late: the time was over, so that what was read may lack its end.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True
        self.late = False

    def __enter__(self) -> "Deadline":
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with self._lock:
            for connection in self._connections:
                connection.close()
            self._connections.clear()

    def open(self, request: urllib.request.Request) -> Any:
        """The response, as of `urllib.request.urlopen`, with its redirects, proxies and errors.

        Of protocols only HTTP: nobody watches the FTP that a redirect may lead to.
        """
        opener = urllib.request.OpenerDirector()
        for handler in (*(kind() for kind in _USUAL), _Http(self), _Https(self)):
            opener.add_handler(handler)
        return opener.open(request, timeout=self._seconds)

    def watch(self, connection: socket.socket) -> None:
        """End this connection, too, when the time is over."""
        with self._lock:
            # A handle of its own: TLS takes over the first one, and closing it ends nothing.
            self._connections.append(connection.dup())
        if self.late:
            self._end()

    def _end(self) -> None:
        self.late = True
        with self._lock:
            for connection in self._connections:
                with contextlib.suppress(OSError):  # the other side was faster
                    connection.shutdown(socket.SHUT_RDWR)


class _Watched(http.client.HTTPConnection):
    deadline: Deadline

    def connect(self) -> None:
        super().connect()
        self.deadline.watch(self.sock)


class _WatchedTls(http.client.HTTPSConnection, _Watched):
    """Watched before TLS begins: its first step asks the next class to connect."""


class _Http(urllib.request.HTTPHandler):
    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._made = functools.partial(_made, _Watched, deadline)

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._made, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._made = functools.partial(_made, _WatchedTls, deadline)

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(self._made, req)


def _made(kind: type[_Watched], deadline: Deadline, host: str, **options: Any) -> _Watched:
    made = kind(host, **options)
    made.deadline = deadline
    return made
