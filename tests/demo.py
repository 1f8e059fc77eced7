#!/usr/bin/python3
"""Shows, on this machine, a container starting before its image is here: plain containerd beside Pagein.

Runs as root, in a few minutes, and leaves nothing behind; built images stay in the cache (PAGEIN_CACHE or .cache/).
"""

import argparse
import contextlib
import os
import pathlib
import signal
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from images import catalogue  # noqa: E402
from images.debian import BuildError  # noqa: E402
from testbed import (  # noqa: E402
    Containerd, Pagein, Pageind, Registry, ShapedLink, TestbedError, push_image, start_time, sweep)

_BAR_WIDTH = 46


def main():
    options = parse_arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return run_demo(options)
    except (TestbedError, BuildError) as error:
        print(f"\nThe demo failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    finally:
        clean_up()


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--image", choices=sorted(start_time.APPS), default="nodeapp",
                        help="the test image to start (default: %(default)s)")
    parser.add_argument("--rate", default="300mbit",
                        help="what the link from the registry carries, as tc writes it (default: %(default)s)")
    return parser.parse_args()


def run_demo(options):
    for part in (Registry, Containerd, Pageind, Pagein, ShapedLink):
        if reason := part.missing():
            raise TestbedError(reason)
    app = start_time.APPS[options.image]
    print(f"Image: {options.image} ({catalogue.recipe(options.image).DESCRIPTION}).")
    if not catalogue.is_cached(options.image):
        print("It is built now, once; this takes some minutes.", flush=True)
    if reason := catalogue.missing(options.image):
        raise BuildError(reason)
    layout = catalogue.layout(options.image)
    print(f"A registry runs in a network namespace of its own, behind a link of {options.rate}.\n")
    with ShapedLink() as link, Registry(netns=link.name, host=link.host) as registry:
        push_image(layout, "latest", registry, app.repository)
        convert(registry, app)
        link.set_rate(options.rate)
        print("2. Plain containerd: fetch every layer, unpack every layer, start.", flush=True)
        plain = start_time.measure_plain(link, registry, app)
        print(f"   HTTP 200 after {plain.ready_seconds:.1f} s.\n")
        print("3. Pagein: mount the image as it is, start; what is read is fetched when it is read,\n"
              "   and the rest arrives in the background.", flush=True)
        lazy = start_time.measure_lazy(link, registry, app)
        print(f"   HTTP 200 after {lazy.ready_seconds:.1f} s.\n")
    print_timeline(plain, lazy)
    return check(plain, lazy)


def convert(registry, app):
    """Makes the accelerated image beside the plain one; the link is not shaped yet."""
    print("1. Convert, as CI would once per image: `pagein convert`.", flush=True)
    began = time.monotonic()
    report = Pagein().json("convert", "--plain-http", "--no-cache", registry.ref(app.repository), timeout=600)
    layers, index = report["layer_bytes"], report["index_bytes"]
    print(f"   {time.monotonic() - began:.1f} s. The layers stay as they are, {megabytes(layers)}; "
          f"an index of {megabytes(index)}\n   ({100 * index / layers:.1f} %) is added.\n")


def print_timeline(plain, lazy):
    longest = max(plain.ready_seconds, lazy.local_seconds)
    rows = [("Plain containerd", plain), ("Pagein", lazy)]
    print("Seconds since the pull began, both from an empty store and with cold caches\n")
    for title, start in rows:
        print(f"  {title}")
        for what, seconds in (("pull finished", start.pull_seconds), ("first HTTP 200", start.ready_seconds),
                              ("whole image local", start.local_seconds)):
            bar = "#" * max(1, round(_BAR_WIDTH * seconds / longest))
            print(f"    {what:18} {seconds:6.1f} s  {bar}")
        print(f"    {'fetched by then':18} {megabytes(start.ready_bytes):>8}  (at the first HTTP 200)\n")
    print(f"  First HTTP 200: {versus(plain.ready_seconds, lazy.ready_seconds)} with Pagein.")
    print(f"  Whole image on the node: {versus(plain.local_seconds, lazy.local_seconds)} with Pagein.")


def versus(plain, lazy):
    return f"{plain / lazy:.1f} times faster" if plain >= lazy else f"{lazy / plain:.1f} times slower"


def megabytes(count):
    return f"{count / 1e6:.1f} MB" if count < 1e8 else f"{count / 1e6:.0f} MB"


def check(plain, lazy):
    """0 if both starts served the same and the lazy image is whole; says so."""
    same = plain.page == lazy.page
    complete = lazy.local_seconds > 0
    print(f"  The page served is the same: {'yes' if same else 'NO'} ({len(lazy.page)} bytes).")
    print("  `pagein status` at the end:\n" + "".join(f"    {line}\n" for line in lazy.status.splitlines()))
    return 0 if same and complete else 1


def clean_up():
    """The parts have cleaned up; this is for what an interrupt in the middle of that left."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    left = sweep.leftovers()
    if left:
        with contextlib.suppress(OSError):
            sweep.clean()
        left = sweep.leftovers()
    for thing in left:
        print(f"left behind: {thing}", file=sys.stderr)


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("The demo needs root: it makes network namespaces, mounts and containers.")
    sys.exit(main())
