"""Image `nasty`: every oddity of tar and gzip that an ordinary pull accepts.

Images of the layout: one per oddity ("whiteouts", "sparse-pax-10", ...), one per encoding ("encoding-pigz", ...),
"hundred" with a hundred layers, "latest" with all oddities and encodings at once, and "docker", the same with Docker's
media types. nasty.docker.tar is "docker" as a `docker save` archive; oddities.json says what each image is for.
"""

import itertools

from images.nasty import encodings, layers, metadata, names, sparse
from images.nasty.assemble import Assembler
from images.nasty.oddity import collect, pattern
from images.nasty.raw_tar import RawTar
from images.oci_layout import OCI_LAYER_ZSTD, write_docker_archive

DESCRIPTION = "every oddity of tar and gzip that a plain pull accepts, one image per oddity and all in one"
REQUIRES = ["apt-get", "dpkg-deb", "pigz", "zstd"]
SOURCES = ["debian.py", "oci_layout.py", "recipe_nasty.py", "nasty/assemble.py", "nasty/encodings.py",
           "nasty/layers.py", "nasty/metadata.py", "nasty/names.py", "nasty/oddity.py", "nasty/raw_tar.py",
           "nasty/sparse.py"]


def oddities():
    return [oddity for module in (names, metadata, layers, sparse) for oddity in collect(module)]


def build(folder):
    assembler = Assembler(folder)
    everything = assembler.oddity_images(oddities(), encodings.ACCEPTED)
    assembler.image("latest", everything, "all oddities, all encodings")

    mixed = mixed_tar()
    for name, encoding in encodings.ACCEPTED.items():
        assembler.image(f"encoding-{name}", [assembler.layer(mixed, name, encoding, "mixed")], f"encoding {name}")

    hundred = [assembler.layer(tar, "gzip", encodings.ACCEPTED["gzip"], f"hundred.{index}")
               for index, tar in enumerate(hundred_tars())]
    assembler.image("hundred", hundred, "a hundred layers with busybox's; most change what lower ones brought")

    for_docker = {name: encoding for name, encoding in encodings.ACCEPTED.items() if encoding[0] != OCI_LAYER_ZSTD}
    turns = itertools.cycle(for_docker.items())
    docker = []
    for oddity in oddities():
        for number, tar in enumerate(oddity.layers):
            name, encoding = next(turns)
            docker.append(assembler.layer(tar, name, encoding, f"{oddity.name}.{number}"))
    assembler.image("docker", docker, "all oddities with Docker's media types", docker=True)
    assembler.describe()
    write_docker_archive(folder, "docker", folder / "nasty.docker.tar", "nasty:docker")


def mixed_tar():
    """A few megabytes of small and large files, of data that compresses well, badly and not at all."""
    tar = RawTar().directory(b"mixed/")
    noise = b"".join(bytes((byte * byte + index) % 256 for byte in pattern(1009, index)) for index in range(0, 500))
    for index in range(300):
        tar.entry(b"mixed/small-%03d" % index, pattern(index * 37 % 9000, index))
    tar.entry(b"mixed/zeros", b"\0" * 2000000).entry(b"mixed/noise", noise).entry(b"mixed/pattern", pattern(1500000))
    return tar.finish()


def hundred_tars():
    """99 layers: each adds a file, rewrites one that all share, and removes what the layer before the last added."""
    for index in range(99):
        tar = RawTar().directory(b"hundred/").entry(b"hundred/file-%02d" % index, b"%d" % index)
        tar.entry(b"hundred/shared", pattern(1000 + index, index))
        if index >= 2 and index % 3:
            tar.entry(b"hundred/.wh.file-%02d" % (index - 2))
        yield tar.finish()
