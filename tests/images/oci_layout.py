"""Writes OCI image layouts (and Docker archives) from layers that are already encoded.

Formats: OCI image-spec v1.0 (image-layout.md, manifest.md, config.md); Docker image manifest version 2 schema 2.
"""

import dataclasses
import gzip
import hashlib
import io
import json
import pathlib
import tarfile

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_LAYER_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"

# One fixed time for everything that we may choose the time of, so that the same recipe gives the same bytes.
EPOCH_TEXT = "2024-01-01T00:00:00Z"


@dataclasses.dataclass(frozen=True)
class Layer:
    """A layer blob in a file. media_type is of OCI; a Docker manifest translates it."""

    path: pathlib.Path
    media_type: str
    diff_id: str
    created_by: str = "test image"


def file_digest(path):
    digest = hashlib.sha256()
    with open(path, "rb") as source:
        while chunk := source.read(1 << 20):
            digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def bytes_digest(data):
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Layout:
    """An OCI layout folder under construction; layer files are moved into it. add_image() any number of times; every call updates index.json."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.blobs = self.folder / "blobs" / "sha256"
        self.blobs.mkdir(parents=True, exist_ok=True)
        (self.folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self._index = []
        self._stored = {}

    def add_image(self, name, layers, config, docker=False):
        """Adds an image under ref name `name`; config: the `config` object (Cmd, Env, ...). Returns its descriptor."""
        config_blob = json.dumps(image_config(layers, config), sort_keys=True).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST if docker else OCI_MANIFEST,
            "config": self._add_bytes(config_blob, DOCKER_CONFIG if docker else OCI_CONFIG),
            "layers": [self._add_layer(layer, docker) for layer in layers],
        }
        descriptor = self._add_bytes(json.dumps(manifest, sort_keys=True).encode(), manifest["mediaType"])
        self._index.append({**descriptor, "annotations": {"org.opencontainers.image.ref.name": name}})
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": self._index}
        (self.folder / "index.json").write_text(json.dumps(index, indent=1))
        return descriptor

    def _add_layer(self, layer, docker):
        """Moves the layer's file into the layout, once; images may share layers."""
        if layer.path not in self._stored:
            self._stored[layer.path] = file_digest(layer.path)
            layer.path.rename(self.blobs / self._stored[layer.path].removeprefix("sha256:"))
        digest = self._stored[layer.path]
        size = blob_path(self.folder, digest).stat().st_size
        return _descriptor(digest, size, _docker_type(layer.media_type) if docker else layer.media_type)

    def _add_bytes(self, data, media_type):
        digest = bytes_digest(data)
        (self.blobs / digest.removeprefix("sha256:")).write_bytes(data)
        return _descriptor(digest, len(data), media_type)


def _descriptor(digest, size, media_type):
    return {"mediaType": media_type, "digest": digest, "size": size}


def _docker_type(media_type):
    return {OCI_LAYER: DOCKER_LAYER, OCI_LAYER_GZIP: DOCKER_LAYER_GZIP}[media_type]


def image_config(layers, config):
    return {
        "created": EPOCH_TEXT, "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        "history": [{"created": EPOCH_TEXT, "created_by": layer.created_by} for layer in layers],
    }


def load_manifest(layout, name):
    """(manifest object, paths of its layers' blobs) of image `name` in a layout folder."""
    layout = pathlib.Path(layout)
    index = json.loads((layout / "index.json").read_text())
    for entry in index["manifests"]:
        if entry.get("annotations", {}).get("org.opencontainers.image.ref.name") == name:
            manifest = json.loads(blob_path(layout, entry["digest"]).read_text())
            return manifest, [blob_path(layout, layer["digest"]) for layer in manifest["layers"]]
    raise KeyError(f"{layout} has no image {name}")


def blob_path(layout, digest):
    return pathlib.Path(layout) / "blobs" / digest.replace(":", "/")


def write_docker_archive(layout, name, target, tag):
    """Writes image `name` as a `docker save` archive: uncompressed layer tars, config, manifest.json."""
    manifest, layer_paths = load_manifest(layout, name)
    config = blob_path(layout, manifest["config"]["digest"]).read_bytes()
    config_name = bytes_digest(config).removeprefix("sha256:") + ".json"
    layer_names = []
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as archive:
        for number, (layer, path) in enumerate(zip(manifest["layers"], layer_paths)):
            layer_names.append(f"layer{number:03d}.tar")
            data = path.read_bytes()
            _add_member(archive, layer_names[-1], gzip.decompress(data) if layer["mediaType"].endswith("gzip") else data)
        _add_member(archive, config_name, config)
        listing = [{"Config": config_name, "RepoTags": [tag], "Layers": layer_names}]
        _add_member(archive, "manifest.json", json.dumps(listing).encode())


def _add_member(archive, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))
