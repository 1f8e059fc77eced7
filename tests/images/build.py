#!/usr/bin/python3
"""Builds test images: build.py NAME... [--out DIR], or build.py --list."""

import argparse
import pathlib
import shutil
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from images import catalogue  # noqa: E402
from images.debian import BuildError  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description="Builds test images as OCI layouts; PAGEIN_CACHE keeps them.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="images to build (default: all)")
    parser.add_argument("--out", type=pathlib.Path, help="copy each layout to OUT/NAME")
    parser.add_argument("--list", action="store_true", help="list the images")
    options = parser.parse_args()
    if options.list:
        for name in catalogue.NAMES:
            state = "cached" if catalogue.is_cached(name) else "not built"
            print(f"{name:14} {state:10} {catalogue.recipe(name).DESCRIPTION}")
        return 0
    failed = 0
    for name in options.names or catalogue.NAMES:
        failed += not build(name, options.out)
    return 1 if failed else 0


def build(name, out):
    """Builds one image and prints where it is; False if that failed."""
    started = time.monotonic()
    try:
        reason = catalogue.missing(name)
        if reason:
            raise BuildError(reason)
        layout = catalogue.layout(name)
    except (BuildError, KeyError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return False
    if out:
        shutil.copytree(layout, out / name, dirs_exist_ok=True)
        layout = out / name
    print(f"{name}: {layout} ({time.monotonic() - started:.1f} s)")
    return True


if __name__ == "__main__":
    sys.exit(main())
