"""I/O of an image's tree once it is on the node: native overlayfs, Pagein from local data, Pagein through its daemon."""

import os
import random
import statistics
import subprocess
import time

from testbed import Containerd, Pagein, Pageind, Registry, drop_caches, push_image
from testbed.process import TestbedError, wait_until

_COMPLETE_SECONDS = 300
_RANDOM_READS = 4000
_BLOCK = 4096
_RANDOM_FILES = 400  # the biggest ones: random reads choose from them, by size
_SEQUENTIAL_MINIMUM = 4 << 20
_SEQUENTIAL_MOST = 512 << 20
_NATIVE, _LOCAL, _DAEMON = "native overlayfs", "Pagein, complete", "Pagein, through the daemon"


def run(options, layout):
    """The report's section, in Markdown."""
    times = {}
    with Registry() as registry:
        push_image(layout, "latest", registry, options.image)
        base = registry.ref(options.image)
        accelerated = base + "_accelerated"
        Pagein().run("convert", "--no-cache", "--no-auto-prefetch", base, timeout=600)
        settings = {"trust": {"repositories": [registry.address + "/*"]},
                    "registry": {"plain_http": [registry.address]}}
        with Pageind(settings) as pageind, \
                Containerd(snapshotters={"pagein": pageind.address}, insecure=[registry.address]) as containerd:
            containerd.pull(base)
            Pagein().run("pull", "-a", containerd.address, "-n", containerd.namespace, accelerated)
            # What is mounted while it still loads stays with the daemon; what is mounted later does not need it.
            with containerd.mounted_container_root(accelerated, "pagein") as daemon:
                wait_until(pageind.complete, _COMPLETE_SECONDS, "the whole image is on the node")
                with containerd.mounted_container_root(accelerated, "pagein") as local, \
                        containerd.mounted_container_root(base) as native:
                    roots = {_NATIVE: native, _LOCAL: local, _DAEMON: daemon}
                    _expect_roads(pageind, roots)
                    tree = _Tree(native)
                    for number in range(options.runs):
                        _measure(tree, roots, times)
                        print(f"  run {number + 1}: tar, cold: " + ", ".join(
                            f"{name} {times['tar of the tree', 'cold'][name][-1]:.1f} s" for name in roots), flush=True)
    return _report(times, tree)


def _expect_roads(pageind, roots):
    """That one of the two mounts is read through the daemon and the other is not."""
    for name, through in ((_LOCAL, False), (_DAEMON, True)):
        drop_caches()
        before = _device_reads(pageind)
        subprocess.run(["cat", os.path.join(roots[name], "usr/bin/env")], check=True, stdout=subprocess.DEVNULL)
        if (_device_reads(pageind) > before) != through:
            raise TestbedError(f"'{name}' is not read the way its name says")


def _device_reads(pageind):
    return sum(image["device_reads"] for image in pageind.status()["images"])


class _Tree:
    """What the workloads read: the same files, by relative path, in every contender's tree."""

    def __init__(self, root):
        self.entries = 0
        sizes = {}
        for folder, folders, names in os.walk(root):
            self.entries += len(folders) + len(names)
            for name in names:
                path = os.path.join(folder, name)
                about = os.lstat(path)
                if os.path.isfile(path) and not os.path.islink(path):
                    sizes.setdefault(about.st_ino, (os.path.relpath(path, root), about.st_size))
        files = sorted(sizes.values())
        chance = random.Random(1)
        big = sorted(sorted(files, key=lambda file: file[1])[-_RANDOM_FILES:])
        self.blocks = []
        for path, size in chance.choices(big, weights=[size for _, size in big], k=_RANDOM_READS):
            self.blocks.append((path, chance.randrange(size // _BLOCK) * _BLOCK))
        self.streams, self.stream_bytes = [], 0
        for path, size in files:
            if size >= _SEQUENTIAL_MINIMUM and self.stream_bytes + size <= _SEQUENTIAL_MOST:
                self.streams.append(path)
                self.stream_bytes += size

    def random_reads(self, root):
        files = {path: os.open(os.path.join(root, path), os.O_RDONLY) for path in {path for path, _ in self.blocks}}
        for path, offset in self.blocks:
            os.pread(files[path], _BLOCK, offset)
        for fd in files.values():
            os.close(fd)

    def sequential_reads(self, root):
        subprocess.run(["cat", *self.streams], cwd=root, check=True, stdout=subprocess.DEVNULL)


def _shell(script):
    return lambda root: subprocess.run(["sh", "-ec", script], cwd=root, check=True, stdout=subprocess.DEVNULL)


def _workloads(tree):
    return [("find", _shell("find . | wc -l")),
            ("stat of every entry", _shell("find . -printf '%s %m %U\\n' | wc -l")),
            ("tar of the tree", _shell("tar cf - . | cat")),
            (f"{_RANDOM_READS} random reads of 4 KiB", tree.random_reads),
            (f"sequential read of {tree.stream_bytes / 1e6:.0f} MB in big files", tree.sequential_reads)]


def _measure(tree, roots, times):
    """Every workload on every tree, cold and then warm; the trees take turns."""
    for title, work in _workloads(tree):
        for name, root in roots.items():
            drop_caches()
            for state in ("cold", "warm"):
                began = time.monotonic()
                work(root)
                times.setdefault((title, state), {}).setdefault(name, []).append(time.monotonic() - began)


def _report(times, tree):
    names = [_NATIVE, _LOCAL, _DAEMON]
    lines = ["## I/O once the image is on the node", "",
             f"A new container's root: overlayfs over the image, {tree.entries} entries. \"Complete\" is mounted from local "
             "data; \"through the daemon\" was mounted while the image still loaded, so every read that the page cache does "
             "not have goes through pageind, which has all data. Cold: the page cache is dropped before. Seconds, median "
             "(smallest-largest); in bold the ratio to native.", "",
             "| | | " + " | ".join(names) + " |", "|---|---|" + "---|" * len(names)]
    for (title, state), by_name in times.items():
        native = statistics.median(by_name[_NATIVE])
        cells = [_cell(by_name[name], native if name != _NATIVE else None) for name in names]
        lines.append(f"| {title} | {state} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(values, native):
    text = f"{statistics.median(values):.2f} ({min(values):.2f}-{max(values):.2f})"
    return text if native is None else f"{text} **{statistics.median(values) / native:.2f}**"
