"""Puts oddities and encodings together as images of one layout."""

import hashlib
import itertools
import json

from images import debian
from images.nasty.encodings import member
from images.nasty.raw_tar import RawTar
from images.oci_layout import OCI_LAYER_GZIP, Layer, Layout

CONFIG = {"Cmd": ["/bin/true"], "Env": ["PATH=/bin"]}
_APPLETS = [b"sh", b"true", b"cat", b"ls", b"find", b"stat", b"sha256sum", b"sleep", b"wc", b"head", b"cmp"]
GZIP = {"gzip": (OCI_LAYER_GZIP, member)}


class Assembler:
    """Collects the layers of a layout folder; images share the busybox layer. describe() writes oddities.json."""

    def __init__(self, folder):
        self.layout = Layout(folder)
        self._folder = folder
        self._count = itertools.count()
        self._images = {}
        self.busybox = self.layer(_busybox_tar(folder / "package"), "gzip", GZIP["gzip"], "busybox")
        debian.run(["rm", "-r", folder / "package"])

    def layer(self, tar, encoding_name, encoding, created_by):
        """Encodes a tar into a layer file."""
        media_type, encode = encoding
        path = self._folder / f"layer{next(self._count)}"
        path.write_bytes(encode(tar))
        return Layer(path, media_type, f"sha256:{hashlib.sha256(tar).hexdigest()}", f"{created_by} ({encoding_name})")

    def image(self, name, layers, why, docker=False):
        """Adds busybox plus layers as image `name`."""
        layers = [self.busybox, *layers]
        descriptor = self.layout.add_image(name, layers, CONFIG, docker)
        self._images[name] = {"why": why, "manifest": descriptor["digest"],
                              "layers": [layer.created_by for layer in layers]}

    def oddity_images(self, oddities, encodings=None):
        """One image per oddity, named after it; returns all the layers, whose encodings take turns."""
        turns = itertools.cycle((encodings or GZIP).items())
        everything = []
        for oddity in oddities:
            layers = []
            for number, tar in enumerate(oddity.layers):
                encoding_name, encoding = next(turns)
                layers.append(self.layer(tar, encoding_name, encoding, f"{oddity.name}.{number}"))
            self.image(oddity.name, layers, oddity.why)
            everything += layers
        return everything

    def describe(self):
        """Writes what each image is for: {image: {why, manifest, layers: ["ODDITY.NUMBER (ENCODING)"]}}."""
        (self._folder / "oddities.json").write_text(json.dumps(self._images, indent=1))


def _busybox_tar(package):
    debian.unpack_package("busybox-static", package)
    tar = RawTar().directory(b"bin/").directory(b"etc/").directory(b"tmp/", mode=0o1777)
    tar.entry(b"bin/busybox", (package / "bin/busybox").read_bytes(), mode=0o755)
    for applet in _APPLETS:
        tar.symlink(b"bin/" + applet, b"busybox")
    return tar.entry(b"etc/passwd", b"root:x:0:0:root:/:/bin/sh\n").finish()
