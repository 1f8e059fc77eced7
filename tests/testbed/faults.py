"""What the FaultProxy can do to an answer, and to which requests.

A fault acts before the registry is asked (`before`), or on the answer's head and body (`plan`).
"""

import dataclasses
import re
import threading


@dataclasses.dataclass(frozen=True)
class Delay:
    """Waits before the request goes on. Combines with other faults."""

    seconds: float


@dataclasses.dataclass(frozen=True)
class StatusCode:
    """Answers with an error by itself; retry_after in seconds adds the header."""

    status: int
    retry_after: int = None
    body: bytes = b'{"errors":[{"code":"TESTBED","message":"injected"}]}'


@dataclasses.dataclass(frozen=True)
class Redirect:
    """Sends blobs to a second port with a URL that holds for `expires_in` seconds, or until expire_redirects()."""

    expires_in: float = 3600


@dataclasses.dataclass(frozen=True)
class Hang:
    """Never answers, or stops after so many body bytes; the connection stays open until release() or stop()."""

    after: int = None


@dataclasses.dataclass(frozen=True)
class Reset:
    """Ends the connection by a TCP reset after so many body bytes; None: before any answer."""

    after: int = None


@dataclasses.dataclass(frozen=True)
class Truncate:
    """Closes the connection orderly after so many body bytes, though Content-Length promised more."""

    after: int


@dataclasses.dataclass(frozen=True)
class CorruptByte:
    """Changes the byte at `offset` of the whole blob, wherever a range brings it; every `every` bytes if given."""

    offset: int = 0
    mask: int = 0x01
    every: int = None

    def apply(self, chunk, position):
        """chunk, whose first byte is at `position` of the blob, with the byte changed."""
        step = self.every or (1 << 62)
        first = self.offset if self.offset >= position else self.offset + -(-(position - self.offset) // step) * step
        if first >= position + len(chunk):
            return chunk
        changed = bytearray(chunk)
        for index in range(first - position, len(chunk), step):
            changed[index] ^= self.mask
        return bytes(changed)


@dataclasses.dataclass(frozen=True)
class WholeBlob:
    """Answers a range request with 200 and everything."""


@dataclasses.dataclass(frozen=True)
class WrongContentRange:
    """Moves both ends of Content-Range by so many bytes; the body is the one asked for."""

    shift: int = 512


@dataclasses.dataclass(frozen=True)
class WrongData:
    """Answers with the bytes of another place: the range is moved before the registry is asked, the head is not."""

    shift: int = 4096


class Rule:
    """One fault with the requests that it applies to. Thread-safe; `hits` counts how often it did.

    kind: 'blob', 'manifest', 'storage' (the second port) or 'other'.  path: regular expression, searched.
    ranged: only requests with (True) or without (False) a Range header.  overlaps: (start, end) of bytes that the
    request must touch.  skip: let so many matching requests pass first.  times: apply to so many only.
    """

    def __init__(self, fault, kind=None, path=None, method="GET", digest=None, ranged=None, overlaps=None, skip=0,
                 times=None):
        self.fault = fault
        self.hits = 0
        self._kind = kind
        self._path = re.compile(path) if path else None
        self._method = method
        self._digest = digest
        self._ranged = ranged
        self._overlaps = overlaps
        self._skip = skip
        self._times = times
        self._lock = threading.Lock()

    def applies(self, request):
        """Whether the fault applies to this request; counts it."""
        if not self._matches(request):
            return False
        with self._lock:
            if self._skip > 0:
                self._skip -= 1
                return False
            if self._times is not None and self.hits >= self._times:
                return False
            self.hits += 1
            return True

    def _matches(self, request):
        if self._kind not in (None, request.kind) or self._method not in (None, request.method):
            return False
        if self._digest not in (None, request.reference) or (self._path and not self._path.search(request.path)):
            return False
        if self._ranged is not None and self._ranged != (request.range is not None):
            return False
        return self._overlaps is None or _overlap(self._overlaps, request.range)


def _overlap(wanted, asked):
    """Whether two [start, end) ranges share a byte; a request without a range asks for everything."""
    if asked is None:
        return True
    start, end = asked
    return start < wanted[1] and (end is None or end > wanted[0])


def parse_range(value):
    """[start, end) of a single-range Range header; end None is open. None for anything else."""
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", value or "")
    if not match:
        return None
    return int(match[1]), int(match[2]) + 1 if match[2] else None
