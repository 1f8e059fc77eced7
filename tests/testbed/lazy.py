"""Accelerated images with known content, mounts of them, and readers that can be waited for and killed."""

import base64
import contextlib
import gzip
import hashlib
import io
import json
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import urllib.request

from images import oci_layout
from testbed import run, sweep
from testbed.pagein import Pagein
from testbed.process import TestbedError, wait_until
from testbed.push import push_image

ACCELERATED = "latest_accelerated"
INDEX_PREFIX = "containerd.io/snapshot/pagein.index."
_ACCEPT = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"

_READER = """
import hashlib, os, sys
path, offset, length, pause = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "pause"
digest = hashlib.sha256()
try:
    fd = os.open(path, os.O_RDONLY)
    if pause:
        print("open", flush=True)
        sys.stdin.readline()
    while length:
        piece = os.pread(fd, min(length, 1 << 20), offset)
        if not piece:
            break
        digest.update(piece)
        offset += len(piece)
        length -= len(piece)
    print("ok", digest.hexdigest(), flush=True)
except OSError as error:
    print("errno", error.errno, flush=True)
"""


def text_bytes(size, seed):
    """Bytes that always are the same and that deflate makes a quarter smaller, by Huffman codes."""
    return base64.b64encode(random.Random(seed).randbytes(size * 3 // 4 + 3))[:size]


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def make_layout(folder, layers, base=None):
    """An OCI layout with image "latest"; layers: a {name: bytes} each, above those of the layout `base`'s image."""
    layout = oci_layout.Layout(folder)
    made = []
    if base:
        manifest, paths = oci_layout.load_manifest(base, "latest")
        config = json.loads(oci_layout.blob_path(base, manifest["config"]["digest"]).read_text())
        for number, (descriptor, path) in enumerate(zip(manifest["layers"], paths)):
            copy = layout.folder / f"base{number}"
            shutil.copy(path, copy)
            made.append(oci_layout.Layer(copy, descriptor["mediaType"], config["rootfs"]["diff_ids"][number]))
    for number, files in enumerate(layers):
        tar = _tar(files)
        path = layout.folder / f"layer{number}"
        path.write_bytes(gzip.compress(tar, compresslevel=1, mtime=0))
        made.append(oci_layout.Layer(path, oci_layout.OCI_LAYER_GZIP, oci_layout.bytes_digest(tar)))
    layout.add_image("latest", made, {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"]})
    return layout.folder


def _tar(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


def push_accelerated(layout, registry, repository):
    """Pushes a layout's "latest" and converts it; the accelerated image's layers, base first, as descriptors."""
    push_image(layout, "latest", registry, repository)
    Pagein().run("convert", "--no-cache", registry.ref(repository))
    return layers_of(registry, repository)


def layers_of(registry, repository, tag=ACCELERATED):
    return image_manifest(registry, repository, tag)[0]["layers"]


def image_manifest(registry, repository, tag=ACCELERATED):
    """(image manifest, its digest) of a tag; of an image index, that of the first platform that runs."""
    manifest, digest = _get_manifest(registry, repository, tag)
    for child in manifest.get("manifests", []):
        found, digest = _get_manifest(registry, repository, child["digest"])
        if "artifactType" not in found:
            return found, digest
    return manifest, digest


def _get_manifest(registry, repository, reference):
    request = urllib.request.Request(f"{registry.url}/v2/{repository}/manifests/{reference}",
                                     headers={"Accept": _ACCEPT})
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.loads(reply.read()), reply.headers["Docker-Content-Digest"]


def index_of(layer):
    """(digest, size, size of the head) of a layer descriptor's index blob."""
    notes = layer["annotations"]
    return notes[INDEX_PREFIX + "digest"], int(notes[INDEX_PREFIX + "size"]), int(notes[INDEX_PREFIX + "head-size"])


def mount(pageind, reference, name="mnt", check=True):
    """`pagein mount` at a folder of the daemon's own; the folder, or with check=False what the command said."""
    point = pageind.folder / name
    point.mkdir(exist_ok=True)
    done = Pagein().run("mount", "--socket", pageind.control, reference, point, check=check, timeout=90)
    return point if check else done


def umount(pageind, point):
    Pagein().run("umount", "--socket", pageind.control, point)


@contextlib.contextmanager
def folder(name):
    """A temporary folder on disk, unmounted below and removed at the end."""
    path = run.new_dir(name)
    try:
        yield path
    finally:
        sweep.unmount_below(path)
        run.remove_dir(path)


class Reader:
    """A process that reads a file, or a part of it. Confined to the thread that made it; a context manager.

    pause: it opens the file and reads when go() is called.
    """

    def __init__(self, path, offset=0, length=1 << 40, pause=False):
        self._child = subprocess.Popen(
            [sys.executable, "-c", _READER, str(path), str(offset), str(length), "pause" if pause else "go"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="ascii", env=run.marked_environment())
        if pause and self._child.stdout.readline() != "open\n":
            raise TestbedError(f"{path} could not be opened")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._child.poll() is None:
            self._child.kill()
        self._child.communicate()

    def go(self):
        self._child.stdin.write("\n")
        self._child.stdin.flush()

    def running(self):
        return self._child.poll() is None

    def result(self, timeout=60):
        """The SHA-256 of what was read as hex, or the errno as int."""
        try:
            output, _ = self._child.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise TestbedError(f"a reader still waits after {timeout} s") from error
        words = output.split()
        if len(words) < 2:
            raise TestbedError(f"a reader ended with {self._child.returncode} and said {output!r}")
        return int(words[-1]) if words[-2] == "errno" else words[-1]

    def kill(self, timeout=5):
        """SIGKILL, which has to end it within timeout."""
        self._child.send_signal(signal.SIGKILL)
        wait_until(lambda: not self.running(), timeout, "a killed reader ends")


def read(path, offset=0, length=1 << 40, timeout=60):
    """Reader's result: SHA-256 as hex, or errno as int."""
    with Reader(path, offset, length) as reader:
        return reader.result(timeout)
