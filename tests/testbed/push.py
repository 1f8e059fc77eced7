"""Pushes images of an OCI layout byte for byte over the registry's HTTP interface, whatever their media types.

skopeo refuses some that are valid (Docker manifests inside a layout), and rewrites others.
"""

import base64
import http.client
import json
import pathlib
import ssl
import urllib.parse

from testbed.process import TestbedError


class Pusher:
    """One connection to a registry for one repository. Confined to one thread. user: "name:password"."""

    def __init__(self, registry, repository, user=None):
        self._repository = repository
        self._headers = {}
        if user:
            self._headers["Authorization"] = "Basic " + base64.b64encode(user.encode()).decode()
        parts = urllib.parse.urlsplit(registry.url)
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=str(registry.ca_path))
            self._connection = http.client.HTTPSConnection(parts.hostname, parts.port, timeout=300, context=context)
        else:
            self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=300)

    def close(self):
        self._connection.close()

    def blob(self, digest, path):
        """Uploads a blob from a file unless the registry has it."""
        path = pathlib.Path(path)
        if self._request("HEAD", f"/v2/{self._repository}/blobs/{digest}")[0] == 200:
            return
        status, headers, body = self._request("POST", f"/v2/{self._repository}/blobs/uploads/")
        _expect(202, status, body)
        location = urllib.parse.urlsplit(headers["Location"])
        query = f"{location.query}&" if location.query else ""
        with open(path, "rb") as data:
            status, _, body = self._request("PUT", f"{location.path}?{query}digest={digest}", data, {
                "Content-Type": "application/octet-stream", "Content-Length": str(path.stat().st_size)})
        _expect(201, status, body)

    def manifest(self, data, media_type, tag):
        """Puts a manifest or index under a tag or digest; returns its digest."""
        status, headers, body = self._request("PUT", f"/v2/{self._repository}/manifests/{tag}", data,
                                              {"Content-Type": media_type})
        _expect(201, status, body)
        return headers["Docker-Content-Digest"]

    def _request(self, method, path, body=None, headers=None):
        self._connection.request(method, path, body, {**self._headers, **(headers or {})})
        reply = self._connection.getresponse()
        return reply.status, reply.headers, reply.read()


def push_image(layout, name, registry, repository, tag="latest", user=None):
    """Pushes image `name` of an OCI layout, with everything below it if it is an index; returns its digest."""
    layout = pathlib.Path(layout)
    index = json.loads((layout / "index.json").read_text())
    for descriptor in index["manifests"]:
        if descriptor.get("annotations", {}).get("org.opencontainers.image.ref.name") == name:
            pusher = Pusher(registry, repository, user)
            try:
                return _push(pusher, layout, descriptor, tag)
            finally:
                pusher.close()
    raise TestbedError(f"{layout} has no image {name}")


def _push(pusher, layout, descriptor, tag):
    """Children first, as registries demand. The nesting of our own layouts is shallow."""
    data = _blob_path(layout, descriptor["digest"]).read_bytes()
    manifest = json.loads(data)
    for child in manifest.get("manifests", []):
        _push(pusher, layout, child, child["digest"])
    for blob in [manifest["config"], *manifest["layers"]] if "layers" in manifest else []:
        pusher.blob(blob["digest"], _blob_path(layout, blob["digest"]))
    return pusher.manifest(data, descriptor["mediaType"], tag)


def _blob_path(layout, digest):
    return layout / "blobs" / digest.replace(":", "/")


def _expect(wanted, status, body):
    if status != wanted:
        raise TestbedError(f"the registry answered {status}, not {wanted}: {body[:500]!r}")
