"""Reads the registry's access log: which blobs and manifests were asked for, and how many bytes went out."""

import dataclasses
import re

# Apache "combined" format, as the registry writes to standard output.
_LINE = re.compile(r'^\S+ - \S+ \[[^\]]*\] "(?P<method>[A-Z]+) (?P<path>\S+) HTTP/[\d.]+" '
                   r'(?P<status>\d{3}) (?P<bytes>\d+) "[^"]*" "(?P<agent>[^"]*)"')
_BLOB = re.compile(r"^/v2/(?P<repo>.+)/blobs/(?P<digest>[a-z0-9]+:[0-9a-f]+)(?:\?|$)")
_MANIFEST = re.compile(r"^/v2/(?P<repo>.+)/manifests/(?P<ref>[^?]+)(?:\?|$)")


@dataclasses.dataclass(frozen=True)
class Access:
    """One finished request. kind: 'blob', 'manifest' or 'other'. bytes: body bytes that the server wrote."""

    method: str
    path: str
    status: int
    bytes: int
    agent: str
    kind: str
    repo: str
    reference: str


def classify(path):
    """(kind, repository, digest or tag) of a registry URL path."""
    match = _BLOB.match(path)
    if match:
        return "blob", match["repo"], match["digest"]
    match = _MANIFEST.match(path)
    if match:
        return "manifest", match["repo"], match["ref"]
    return "other", "", ""


def parse_line(line):
    """The Access of one log line, or None for lines that are something else."""
    match = _LINE.match(line)
    if not match:
        return None
    return Access(match["method"], match["path"], int(match["status"]), int(match["bytes"]), match["agent"],
                  *classify(match["path"]))


def total_bytes(accesses, kind=None, digest=None):
    """Sum of body bytes of GETs, of one kind and one digest if given."""
    return sum(access.bytes for access in accesses
               if access.method == "GET" and (kind is None or access.kind == kind)
               and (digest is None or access.reference == digest))


def bytes_by_digest(accesses):
    """{digest: (GET requests, bytes)} over blobs."""
    result = {}
    for access in accesses:
        if access.method == "GET" and access.kind == "blob":
            count, size = result.get(access.reference, (0, 0))
            result[access.reference] = (count + 1, size + access.bytes)
    return result
