"""Scale: mounts of big images, many containers at once, many images; memory, threads and CPU of the daemon."""

import concurrent.futures
import contextlib
import os
import pathlib
import statistics
import subprocess
import time

from images import catalogue, oci_layout
from testbed import Containerd, Pagein, Pageind, Registry, drop_caches, lazy, push_image
from testbed import run as testbed_run
from testbed.process import wait_until

_COMPLETE_SECONDS = 300
_FILES = 100_000
_CONTAINERS = (1, 10, 50, 200)
_MANY_IMAGES = 100
_SHARING_IMAGES = 20
_IDLE_SECONDS = 10
_SLEEP = ["/bin/sleep", "1000"]


def run(options, _layout):
    """The report's sections, in Markdown."""
    folder = testbed_run.new_dir("scale")
    try:
        return "\n".join([_mounts(options, folder), _containers(options), _images(folder), _sharing(folder)])
    finally:
        testbed_run.remove_dir(folder)


@contextlib.contextmanager
def _node(registry):
    """A fresh daemon and containerd."""
    settings = {"trust": {"repositories": [registry.address + "/*"]}, "registry": {"plain_http": [registry.address]}}
    with Pageind(settings) as pageind, \
            Containerd(snapshotters={"pagein": pageind.address}, insecure=[registry.address]) as containerd:
        yield pageind, containerd


def _pull(containerd, reference):
    Pagein().run("pull", "-a", containerd.address, "-n", containerd.namespace, reference)


def _convert(layout, registry, repository):
    push_image(layout, "latest", registry, repository)
    Pagein().run("convert", "--no-cache", "--no-auto-prefetch", registry.ref(repository), timeout=600)
    return registry.ref(repository) + "_accelerated"


def _mounts(options, folder):
    """The first mount of an image against one more container of it: the difference is merge, metadata and mount."""
    lines = ["## Mounting an image", "",
             f"{_FILES} files in so many layers: milliseconds that the first container's snapshot takes more than the second "
             "one's, for which all is there: merge of the file tables, EROFS metadata file, FUSE connection and mount. "
             "Median (smallest-largest).", "", "| layers | ms |", "|---|---|"]
    with Registry() as registry:
        for count in (1, 20):
            per_layer = _FILES // count
            layout = lazy.make_layout(folder / f"mount{count}", [
                {f"usr/lib/part{layer:02}/d{number // 100}/f{number}": b"" for number in range(per_layer)}
                for layer in range(count)])
            reference = _convert(layout, registry, f"mount{count}")
            times = []
            for _ in range(max(3, options.runs)):
                with _node(registry) as (_, containerd):
                    _pull(containerd, reference)
                    chain = containerd.chain_id(reference)
                    with contextlib.ExitStack() as roots:
                        took = []
                        for _ in range(2):
                            began = time.monotonic()
                            roots.enter_context(containerd.mounted_container_root(reference, "pagein", chain))
                            took.append(time.monotonic() - began)
                    times.append(1000 * (took[0] - took[1]))
            lines.append(f"| {count} | {_spread(times, 0)} |")
            print(f"  {_FILES} files in {count} layers: {_spread(times, 0)} ms", flush=True)
    return "\n".join(lines) + "\n"


def _containers(options):
    """Many containers of one image at once, lazily and plainly."""
    lines = ["## Containers at once", "",
             "Image `small`, so many `ctr run` at once, each run on a fresh node: seconds until every container runs, and what "
             "the registry sent, in times the image's layers. The clients and shims take most of the time. One run each.", "",
             "| containers | overlayfs (pulled before) s | Pagein s, pull included | layers sent |", "|---|---|---|---|"]
    with Registry() as registry:
        layout = catalogue.layout("small")
        accelerated = _convert(layout, registry, "small")
        layers = [layer["digest"] for layer in oci_layout.load_manifest(layout, "latest")[0]["layers"]]
        size = sum(layer["size"] for layer in oci_layout.load_manifest(layout, "latest")[0]["layers"])
        for count in _CONTAINERS:
            with _node(registry) as (_, containerd):
                containerd.pull(registry.ref("small"))
                drop_caches()
                plain = _start_many(containerd, registry.ref("small"), "overlayfs", count)
            with _node(registry) as (pageind, containerd):
                drop_caches()
                mark = registry.mark()
                began = time.monotonic()
                _pull(containerd, accelerated)
                _start_many(containerd, accelerated, "pagein", count)
                took = time.monotonic() - began
                wait_until(pageind.complete, _COMPLETE_SECONDS, "the image is on the node")
                sent = sum(registry.bytes_served(digest=digest, since=mark) for digest in layers)
            lines.append(f"| {count} | {plain:.1f} | {took:.1f} | {sent / size:.2f} |")
            print(f"  {count} containers: overlayfs {plain:.1f} s, Pagein {took:.1f} s", flush=True)
    return "\n".join(lines) + "\n"


def _start_many(containerd, reference, snapshotter, count):
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda _: containerd.run_detached(reference, _SLEEP, snapshotter), range(count)))
    took = time.monotonic() - began
    running = sum(status == "RUNNING" for _, status in containerd.tasks().values())
    if running != count:
        raise AssertionError(f"{running} of {count} containers run")
    return took


def _images(folder):
    """Many images mounted: what the daemon holds, and that it is idle."""
    base = catalogue.layout("small")
    lines = ["## Many images", "",
             f"{_MANY_IMAGES} images, each with a layer of its own on `small`, each mounted with a container's root.", "",
             "| | RSS MB | threads | descriptors | CPU % when idle |", "|---|---|---|---|---|"]
    with Registry() as registry, _node(registry) as (pageind, containerd), contextlib.ExitStack() as roots:
        lines.append(_state("pageind, no image", pageind.pid))
        for number in range(_MANY_IMAGES):
            layout = lazy.make_layout(folder / f"many{number}", [{f"opt/app{number}": lazy.text_bytes(200_000, number)}],
                                      base=base)
            reference = _convert(layout, registry, f"many{number}")
            _pull(containerd, reference)
            roots.enter_context(containerd.mounted_container_root(reference, "pagein"))
        wait_until(pageind.complete, _COMPLETE_SECONDS, "all images are on the node")
        lines.append(_state(f"{_MANY_IMAGES} images mounted, complete", pageind.pid))
        print(f"  {_MANY_IMAGES} images: {lines[-1]}", flush=True)
    return "\n".join(lines) + "\n"


def _state(title, pid):
    began = _ticks(pid)
    time.sleep(_IDLE_SECONDS)
    share = 100 * (_ticks(pid) - began) / os.sysconf("SC_CLK_TCK") / _IDLE_SECONDS
    status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    rss = int(status["VmRSS"].split()[0]) * 1024 / 1e6
    return (f"| {title} | {rss:.0f} | {status['Threads'].strip()} | "
            f"{len(os.listdir(f'/proc/{pid}/fd'))} | {share:.1f} |")


def _ticks(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _sharing(folder):
    """Images on one base, each tree read whole: page cache and memory against overlayfs, which shares the base's pages."""
    base = catalogue.layout("python")
    lines = ["## Images on one base", "",
             f"{_SHARING_IMAGES} images, each with a layer of its own on `python`; every tree is read whole by tar, one after "
             "the other. Page cache and kernel memory that this took, and the disk.", "",
             "| | page cache MB | slab MB | daemon RSS MB | disk MB |", "|---|---|---|---|---|"]
    with Registry() as registry:
        images = []
        for number in range(_SHARING_IMAGES):
            layout = lazy.make_layout(folder / f"share{number}", [{f"opt/app{number}": lazy.text_bytes(200_000, number)}],
                                      base=base)
            images.append((registry.ref(f"share{number}"), _convert(layout, registry, f"share{number}")))
        for title, snapshotter in (("containerd, overlayfs", "overlayfs"), ("Pagein, complete", "pagein")):
            with _node(registry) as (pageind, containerd), contextlib.ExitStack() as roots:
                paths = []
                for plain, accelerated in images:
                    reference = accelerated if snapshotter == "pagein" else plain
                    if snapshotter == "pagein":
                        _pull(containerd, reference)
                        with containerd.mounted_container_root(reference, snapshotter):
                            wait_until(pageind.complete, _COMPLETE_SECONDS, "the image is on the node")
                    else:
                        containerd.pull(reference)
                    paths.append(roots.enter_context(containerd.mounted_container_root(reference, snapshotter)))
                disk = _disk(pageind.folder if snapshotter == "pagein" else containerd.root / "io.containerd.snapshotter.v1.overlayfs")
                drop_caches()
                before = _memory()
                for path in paths:
                    subprocess.run(["sh", "-ec", "tar cf - . | cat"], cwd=path, check=True, stdout=subprocess.DEVNULL)
                after = _memory()
                rss = int(dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pageind.pid}/status").read_text()
                               .splitlines())["VmRSS"].split()[0]) * 1024 / 1e6
                lines.append(f"| {title} | {after['Cached'] - before['Cached']:.0f} | {after['Slab'] - before['Slab']:.0f} | "
                             f"{rss:.0f} | {disk:.0f} |")
                print(f"  {lines[-1]}", flush=True)
    return "\n".join(lines) + "\n"


def _memory():
    """/proc/meminfo in MB."""
    return {line.split(":")[0]: int(line.split()[1]) * 1024 / 1e6
            for line in pathlib.Path("/proc/meminfo").read_text().splitlines()}


def _disk(path):
    return int(subprocess.run(["du", "-skx", path], capture_output=True, text=True, check=True).stdout.split()[0]) * 1024 / 1e6


def _spread(values, digits):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"
