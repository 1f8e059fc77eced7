"""A reverse proxy in front of a registry that misbehaves on demand and counts what passes."""

import dataclasses
import http.client
import http.server
import os
import socket
import ssl
import struct
import threading
import time
import uuid

from testbed import run
from testbed.access_log import classify
from testbed.faults import (
    CorruptByte, Delay, Hang, Redirect, Reset, Rule, StatusCode, Truncate, WholeBlob, WrongContentRange, WrongData,
    parse_range)

_CHUNK = 64 * 1024
_HOP_HEADERS = {"connection", "keep-alive", "transfer-encoding", "te", "upgrade", "proxy-connection"}


@dataclasses.dataclass
class Request:
    """One request that reached the proxy. sent: body bytes written so far. faults: those that applied."""

    method: str
    path: str
    kind: str
    repo: str
    reference: str
    range: tuple
    authorization: str
    started: float
    status: int = 0
    sent: int = 0
    seconds: float = None
    faults: list = dataclasses.field(default_factory=list)


class FaultProxy:
    """Listens on loopback in threads; stands for the registry it leads to (address, url, ref). Thread-safe.

    ca: a PrivateCa; then the proxy serves TLS.  The registry itself is asked over plain HTTP.
    """

    def __init__(self, registry, ca=None):
        self.upstream = (registry.host, registry.port)
        self.host = "127.0.0.1"
        self._ca = ca
        self._rules = []
        self._requests = []
        self._links = {}
        self._lock = threading.Lock()
        self._released = threading.Event()
        self._folder = None

    def __enter__(self):
        self._server = _Server(self, storage=False)
        self._storage = _Server(self, storage=True)
        self.port = self._server.server_address[1]
        if self._ca:
            self._folder = run.new_dir("proxy")
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self._ca.issue(f"proxy-{self.port}"))
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True,
                                                      do_handshake_on_connect=False)
        for server in (self._server, self._storage):
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._released.set()
        for server in (self._server, self._storage):
            server.shutdown()
            server.server_close()
            server.close_connections()
        if self._folder:
            run.remove_dir(self._folder)

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    @property
    def url(self):
        return f"{'https' if self._ca else 'http'}://{self.address}"

    @property
    def ca_path(self):
        return self._ca.cert_path if self._ca else None

    @property
    def storage_port(self):
        return self._storage.server_address[1]

    def ref(self, repository, tag="latest"):
        return f"{self.address}/{repository}:{tag}"

    def add(self, fault, **match):
        """Adds a rule (see Rule for `match`); returns it. All rules that apply to a request act together."""
        rule = Rule(fault, **match)
        with self._lock:
            self._rules.append(rule)
        return rule

    def remove(self, rule):
        with self._lock:
            self._rules.remove(rule)

    def clear(self):
        """Removes all rules and lets go of what hangs."""
        with self._lock:
            self._rules.clear()
        self.release()

    def release(self):
        """Closes the connections that hang now; later ones hang again."""
        released, self._released = self._released, threading.Event()
        released.set()

    def cut_connections(self):
        """Resets every open connection, as a failing network would."""
        for server in (self._server, self._storage):
            server.close_connections()

    def expire_redirects(self):
        """From now on every URL that a Redirect gave out answers 403."""
        with self._lock:
            self._links = {name: (path, authorization, 0) for name, (path, authorization, _) in self._links.items()}

    def requests(self, kind=None, digest=None, method=None):
        """Requests so far, oldest first."""
        with self._lock:
            return [request for request in self._requests
                    if kind in (None, request.kind) and digest in (None, request.reference)
                    and method in (None, request.method)]

    def bytes_sent(self, kind=None, digest=None):
        return sum(request.sent for request in self.requests(kind, digest, "GET"))

    def forget_requests(self):
        with self._lock:
            self._requests.clear()

    # For the handlers.

    def begin(self, request):
        """Records a request and returns the faults that apply."""
        with self._lock:
            self._requests.append(request)
            rules = list(self._rules)
        request.faults = [rule.fault for rule in rules if rule.applies(request)]
        return request.faults

    def make_link(self, path, authorization, expires_in):
        name = uuid.uuid4().hex
        with self._lock:
            self._links[name] = (path, authorization, time.monotonic() + expires_in)
        return f"http://{self.host}:{self.storage_port}/objects/{name}?signature={uuid.uuid4().hex}"

    def follow_link(self, path):
        """(registry path, authorization) of a storage URL, or None if it is unknown or has expired."""
        name = path.split("?")[0].rpartition("/")[2]
        with self._lock:
            link = self._links.get(name)
        return link[:2] if link and time.monotonic() < link[2] else None

    def link_target(self, path):
        with self._lock:
            link = self._links.get(path.split("?")[0].rpartition("/")[2])
        return link[0] if link else ""

    def wait_release(self):
        self._released.wait()


class _Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True

    def __init__(self, proxy, storage):
        self.proxy = proxy
        self.storage = storage
        self._open = set()
        self._open_lock = threading.Lock()
        super().__init__((proxy.host, 0), _Handler)

    def process_request(self, request, client_address):
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request):
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def close_connections(self):
        with self._open_lock:
            connections = list(self._open)
        for connection in connections:
            try:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def handle_error(self, request, client_address):
        """Clients that go away are ordinary here."""


class _Stop(Exception):
    """Ends a request and its connection; the client got what it should get."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    _upstream = None

    def _serve(self):
        proxy = self.server.proxy
        path = proxy.link_target(self.path) if self.server.storage else self.path
        kind, repo, reference = classify(path)
        request = Request(self.command, self.path, "storage" if self.server.storage else kind, repo, reference,
                          parse_range(self.headers.get("Range")), self.headers.get("Authorization", "").split(" ")[0],
                          time.monotonic())
        faults = proxy.begin(request)
        try:
            self._act(request, faults)
        except (_Stop, OSError, http.client.HTTPException):
            self.close_connection = True
        finally:
            request.seconds = time.monotonic() - request.started

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _act(self, request, faults):
        for fault in faults:
            if isinstance(fault, Delay):
                time.sleep(fault.seconds)
        for fault in faults:
            if isinstance(fault, Hang) and fault.after is None:
                self._hang()
            elif isinstance(fault, Reset) and fault.after is None:
                self._reset()
            elif isinstance(fault, StatusCode):
                headers = {"Retry-After": str(fault.retry_after)} if fault.retry_after is not None else {}
                return self._answer(request, fault.status, fault.body, headers)
            elif isinstance(fault, Redirect):
                url = self.server.proxy.make_link(self.path, self.headers.get("Authorization"), fault.expires_in)
                return self._answer(request, 307, b"", {"Location": url})
        path, headers = self.path, {name: value for name, value in self.headers.items()
                                    if name.lower() not in _HOP_HEADERS}
        if self.server.storage:
            link = self.server.proxy.follow_link(self.path)
            if link is None:
                return self._answer(request, 403, b"expired", {})
            path = link[0]
            headers.pop("Authorization", None)
            if link[1]:
                headers["Authorization"] = link[1]
        self._forward(request, faults, path, headers)

    def _answer(self, request, status, body, headers):
        """An answer of the proxy's own."""
        self._read_body()
        request.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
            request.sent = len(body)

    def _forward(self, request, faults, path, headers):
        for fault in faults:
            if isinstance(fault, WholeBlob):
                headers.pop("Range", None)
            elif isinstance(fault, WrongData) and request.range:
                start, end = (max(0, edge + fault.shift) if edge is not None else None for edge in request.range)
                headers["Range"] = f"bytes={start}-{end - 1 if end else ''}"
        reply = self._ask(path, headers)
        request.status = reply.status
        self.send_response(reply.status)
        for name, value in reply.getheaders():
            if name.lower() not in _HOP_HEADERS and name.lower() not in ("server", "date"):
                self.send_header(name, self._changed_header(name, value, request, faults))
        length = reply.getheader("Content-Length")
        if length is None and reply.status >= 200 and reply.status not in (204, 304):
            self.close_connection = True
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self._send_body(request, faults, reply)

    def _changed_header(self, name, value, request, faults):
        for fault in faults:
            shift = getattr(fault, "shift", None)
            if name.lower() == "content-range" and shift is not None and value.startswith("bytes "):
                span, _, total = value.removeprefix("bytes ").partition("/")
                start, end = (int(edge) for edge in span.split("-"))
                # WrongData asked elsewhere, and pretends that it did not.
                shift = shift if isinstance(fault, WrongContentRange) else -shift
                value = f"bytes {start + shift}-{end + shift}/{total}"
        return value

    def _ask(self, path, headers):
        """Sends the request on over this client connection's own upstream connection; one more try if that is stale."""
        body = self._read_body()
        for attempt in (0, 1):
            try:
                if self._upstream is None:
                    self._upstream = http.client.HTTPConnection(*self.server.proxy.upstream, timeout=120)
                self._upstream.request(self.command, path, body, headers)
                return self._upstream.getresponse()
            except (OSError, http.client.HTTPException):
                self._upstream.close()
                self._upstream = None
                if attempt:
                    raise

    def _read_body(self):
        """The request's body; uploads in tests are small enough to hold."""
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
        body = bytearray()
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            body += self.rfile.read(size)
            self.rfile.readline()
            if size == 0:
                self.headers.replace_header("Transfer-Encoding", "identity")
                return bytes(body)

    def _send_body(self, request, faults, reply):
        position = _body_start(reply)
        limits = [fault for fault in faults
                  if isinstance(fault, (Hang, Reset, Truncate)) and fault.after is not None]
        while chunk := reply.read(_CHUNK):
            for fault in faults:
                if isinstance(fault, CorruptByte):
                    chunk = fault.apply(chunk, position)
            for fault in limits:
                if request.sent + len(chunk) >= fault.after:
                    part = chunk[:fault.after - request.sent]
                    self.wfile.write(part)
                    request.sent += len(part)
                    self._break_off(fault)
            self.wfile.write(chunk)
            request.sent += len(chunk)
            position += len(chunk)

    def _break_off(self, fault):
        if isinstance(fault, Hang):
            self._hang()
        elif isinstance(fault, Reset):
            self._reset()
        raise _Stop

    def _hang(self):
        self.server.proxy.wait_release()
        raise _Stop

    def _reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())
        raise _Stop

    def finish(self):
        if self._upstream:
            self._upstream.close()
        try:
            super().finish()
        except OSError:
            pass

    def log_message(self, *_):
        pass


def _body_start(reply):
    """Where in the blob an answer's body begins."""
    span = reply.getheader("Content-Range", "")
    return int(span.removeprefix("bytes ").split("-")[0]) if reply.status == 206 and span.startswith("bytes ") else 0
