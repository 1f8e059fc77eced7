"""Debian's kernels, unpacked in the cache, and an initramfs for each that mounts the root disk."""

import lzma
import os
import pathlib
import re
import shutil
import subprocess

from images import cache, debian

# Debian release: the kernel series that its stock kernel is of.
SUITES = {"bullseye": "5.10", "bookworm": "6.1", "trixie": "6.12"}
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# crc32c_generic: what ext4 and erofs ask the kernel's crypto for by name, which modules.dep does not tell.
_MODULES = ["crc32c_generic", "virtio_pci", "virtio_blk", "ext4", "overlay", "erofs", "loop",
            "fuse"]

_INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
while read module; do /bin/busybox insmod "/modules/$module"; done < /modules/order
for try in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/vda ] && break; /bin/busybox sleep 1; done
/bin/busybox mount -t ext4 /dev/vda /root || { echo "RESULT boot no root disk"; /bin/busybox poweroff -f; }
/bin/busybox umount /dev
exec /bin/busybox switch_root /root /guest.sh
"""


class Kernel:
    """One unpacked kernel package."""

    def __init__(self, suite, folder):
        self.suite = suite
        self.image = next((folder / "boot").glob("vmlinuz-*"))
        self.release = self.image.name.removeprefix("vmlinuz-")
        self._base = folder / "usr" if (folder / "usr/lib/modules").is_dir() else folder
        self._modules = self._base / "lib/modules" / self.release

    def make_initramfs(self, work, busybox):
        """The path of an initramfs with the modules that the guest needs."""
        root = work / f"initramfs-{self.suite}"
        for name in ("bin", "dev", "root", "modules"):
            (root / name).mkdir(parents=True)
        shutil.copy(busybox, root / "bin/busybox")
        order = self._load_order()
        for module in order:
            self._copy_module(module, root / "modules")
        (root / "modules/order").write_text("".join(self._plain_name(module) + "\n" for module in order))
        (root / "init").write_text(_INIT)
        (root / "init").chmod(0o755)
        names = "\0".join(str(path.relative_to(root)) for path in root.rglob("*"))
        archive = work / f"initramfs-{self.suite}.cpio"
        with archive.open("wb") as out:
            subprocess.run(["cpio", "--quiet", "-0", "-o", "-H", "newc"], cwd=root, input=names.encode(), stdout=out,
                           check=True, timeout=60)
        return archive

    def _load_order(self):
        """Modules as paths in the package's folder, each after what it needs; without what is built in."""
        if not (self._modules / "modules.dep").exists():
            debian.run(["depmod", "-b", self._base, self.release])
        needs = {}
        for line in (self._modules / "modules.dep").read_text().splitlines():
            path, _, rest = line.partition(":")
            needs[path] = rest.split()
        by_name = {re.sub(r"\.ko.*$", "", os.path.basename(path)).replace("-", "_"): path for path in needs}
        order = []
        for name in _MODULES:
            if name not in by_name:
                continue  # built in
            # modules.dep lists all that a module needs, what is needed first last.
            for path in reversed([by_name[name], *needs[by_name[name]]]):
                if path not in order:
                    order.append(path)
        return order

    @staticmethod
    def _plain_name(module):
        return os.path.basename(module).removesuffix(".xz")

    def _copy_module(self, module, folder):
        data = (self._modules / module).read_bytes()
        if module.endswith(".xz"):
            data = lzma.decompress(data)
        (folder / self._plain_name(module)).write_bytes(data)


def get(suite):
    """The stock kernel of a Debian release, fetched if it is not in the cache. Raises debian.BuildError."""
    folder = cache.cache_dir() / "kernels" / suite
    options = _apt_options(suite, folder)
    name = _package(options)
    unpacked = folder / name
    if not unpacked.is_dir():
        work = folder / "new"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        debian.run(["apt-get", *options, "download", "-q", name], cwd=work)
        package = next(work.glob("*.deb"))
        debian.run(["dpkg-deb", "-x", package, work])
        package.unlink()
        for other in folder.glob("linux-image-*"):
            shutil.rmtree(other)
        work.rename(unpacked)
    return Kernel(suite, unpacked)


def _apt_options(suite, folder):
    """apt with lists of its own, from this machine's mirror."""
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={_KEYRING}] {debian.mirror()} {suite} main\n")
    settings = {"Dir::Etc::sourcelist": sources, "Dir::Etc::sourceparts": "/dev/null", "Dir::Cache": folder / "cache",
                "Dir::State::lists": folder / "lists", "APT::Sandbox::User": "root"}
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def _package(options):
    """What linux-image-amd64 depends on."""
    for attempt in ("known", "updated"):
        if attempt == "updated":
            debian.run(["apt-get", *options, "update", "-qq"])
        done = subprocess.run(["apt-cache", *options, "depends", "linux-image-amd64"], capture_output=True,
                              encoding="utf-8", timeout=120)
        match = re.search(r"Depends: (linux-image-\d\S+)", done.stdout)
        if match:
            return match[1]
    raise debian.BuildError("apt names no kernel: " + done.stderr[-500:])
