"""The minimal Debian that several images start from, bootstrapped once and cached as a tar."""

import pathlib

from images import cache, debian

_HERE = pathlib.Path(__file__).resolve().parent
REQUIRES = ["debootstrap", "apt-get", "chroot", "tar", "unshare"]
SOURCES = ["debian.py", "debian_base.py"]

# Documentation and translations, which slim images leave out too.
_SLIM = ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "usr/share/lintian"]


def unpack(rootfs):
    """Fills the new folder rootfs with the base."""
    rootfs = pathlib.Path(rootfs)
    rootfs.mkdir()
    key = cache.key_of([_HERE / source for source in SOURCES], debian.suite())
    tar = cache.get("debian-base", key, _build) / "rootfs.tar"
    debian.run(["tar", "--extract", "--file", tar, "--xattrs", "--xattrs-include=*", "--numeric-owner", "-C", rootfs])


def slim(rootfs):
    """Empties the folders that slim images leave out."""
    for folder in _SLIM:
        debian.run(["find", rootfs / folder, "-mindepth", "1", "-delete"])


def _build(folder):
    with cache.scratch(folder) as scratch:
        rootfs = scratch / "rootfs"
        debian.bootstrap(rootfs)
        debian.remove_apt_state(rootfs)
        slim(rootfs)
        debian.run(["tar", "--create", "--file", folder / "rootfs.tar", "--format=pax", "--xattrs",
                    "--xattrs-include=*", "--numeric-owner", "--one-file-system", "-C", rootfs, "."])
