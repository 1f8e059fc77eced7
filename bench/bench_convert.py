"""Conversion: time, CPU and memory of `pagein convert`, with the least that reading a layer can cost beside it."""

import json
import os
import statistics
import subprocess
import tempfile
import time

from images import oci_layout
from testbed import Containerd, Registry, build_dir, push_image
from testbed.process import TestbedError, find_program


def run(options, layout):
    """The report's section, in Markdown."""
    blobs = [str(path) for path in oci_layout.load_manifest(layout, "latest")[1]]
    tar = sum(int(subprocess.run(f"gzip -dc {blob} | wc -c", shell=True, capture_output=True, check=True).stdout)
              for blob in blobs)
    converts, floors = [], []
    with Registry() as registry:
        for number in range(options.runs):
            # A repository of its own: what has been indexed there before is not read again.
            repository = f"{options.image}{number}"
            push_image(layout, "latest", registry, repository)
            converts.append(measure([build_dir.program("pagein"), "convert", "--no-cache", "--json",
                                     registry.ref(repository)]))
            floors.append(measure(["sh", "-c", 'for blob; do gzip -dc "$blob" | sha256sum; done', "sh", *blobs]))
            print(f"  run {number + 1}: {converts[-1].wall:.1f} s, {converts[-1].cpu:.1f} CPU-s; "
                  f"floor {floors[-1].wall:.1f} s, {floors[-1].cpu:.1f} CPU-s", flush=True)
        peer = measure_estargz(registry, f"{options.image}0")
    report = json.loads(converts[-1].output)
    compressed, index = report["layer_bytes"], report["index_bytes"]
    gigabytes = tar / 1e9
    return "\n".join([
        "## Conversion, index only", "",
        f"{len(blobs)} layers, {compressed / 1e6:.0f} MB of tar.gz, {gigabytes:.2f} GB of tar; registry on loopback. "
        f"The index is {index / 1e6:.1f} MB, {100 * index / compressed:.2f} % of the layers. "
        f"The floor is `gzip -dc LAYER | sha256sum`, one layer after another. Median (smallest-largest).", "",
        "| | wall s per GB of tar | CPU-s per GB of tar | peak RSS MB |", "|---|---|---|---|",
        row("pagein convert", converts, gigabytes), row("gzip -dc, sha256sum", floors, gigabytes),
        *peer_lines(peer, gigabytes, compressed)]) + "\n"


def measure_estargz(registry, repository):
    """(Usage, bytes of the converted layers) of Debian's ctr-remote, once: it takes minutes. None where it lacks."""
    program = find_program("ctr-remote")
    if program is None:
        return None
    with Containerd(insecure=[registry.address]) as containerd:
        reference = registry.ref(repository)
        containerd.pull(reference)
        usage = measure([program, "-a", containerd.address, "-n", containerd.namespace, "image", "convert", "--estargz",
                         "--oci", reference, reference + "_estargz"])
        digest = containerd.ctr("image", "ls", f"name=={reference}_estargz").stdout.splitlines()[1].split()[2]
        manifest = json.loads(containerd.ctr("content", "get", digest).stdout)
    print(f"  ctr-remote: {usage.wall:.1f} s, {usage.cpu:.1f} CPU-s", flush=True)
    return usage, sum(layer["size"] for layer in manifest["layers"])


def peer_lines(peer, gigabytes, compressed):
    if peer is None:
        return ["", "ctr-remote (Debian's stargz-snapshotter) is not installed: no peer was measured."]
    usage, size = peer
    return [row("ctr-remote image convert --estargz, one run", [usage], gigabytes), "",
            f"The eStargz image is {size / 1e6:.0f} MB, {100 * size / compressed:.1f} % of the layers, and takes that much "
            "again in the registry. Its converter's memory and CPU are of the client alone, without containerd's."]


class Usage:
    """What one command took."""

    def __init__(self, wall, rusage, output):
        self.wall = wall
        self.cpu = rusage.ru_utime + rusage.ru_stime
        self.rss = rusage.ru_maxrss * 1024
        self.output = output


def measure(argv):
    """Runs a command to its end; its CPU time includes that of its children."""
    with tempfile.TemporaryFile() as output:
        began = time.monotonic()
        child = subprocess.Popen(argv, stdout=output, stdin=subprocess.DEVNULL)
        _, status, rusage = os.wait4(child.pid, 0)
        wall = time.monotonic() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            raise TestbedError(f"{argv[0]} ended with {child.returncode}")
        output.seek(0)
        return Usage(wall, rusage, output.read().decode())


def row(title, usages, gigabytes):
    columns = [[usage.wall / gigabytes for usage in usages], [usage.cpu / gigabytes for usage in usages],
               [usage.rss / 1e6 for usage in usages]]
    cells = [f"{statistics.median(column):.1f} ({min(column):.1f}-{max(column):.1f})" for column in columns]
    return f"| {title} | " + " | ".join(cells) + " |"
