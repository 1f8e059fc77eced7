#!/usr/bin/python3
"""Measures Pagein on this machine and writes bench/RESULTS.md. See bench/README.md."""

import argparse
import datetime
import os
import pathlib
import platform
import subprocess
import sys

CHECKOUT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CHECKOUT / "tests"))

import bench_convert  # noqa: E402
import bench_io  # noqa: E402
import bench_scale  # noqa: E402
import bench_start  # noqa: E402
from images import catalogue  # noqa: E402
from images.debian import BuildError  # noqa: E402
from testbed import Containerd, Pagein, Pageind, Registry, ShapedLink, TestbedError, sweep  # noqa: E402


PARTS = {"convert": bench_convert, "start": bench_start, "io": bench_io, "scale": bench_scale}


def main():
    options = parse_arguments()
    try:
        for part in (Registry, Containerd, Pageind, Pagein, ShapedLink):
            if reason := part.missing():
                raise TestbedError(reason)
        if reason := catalogue.missing(options.image):
            raise BuildError(reason)
        layout = catalogue.layout(options.image)
        sections = [machine(options)]
        for name in options.only or PARTS:
            print(PARTS[name].__doc__.splitlines()[0], flush=True)
            sections.append(PARTS[name].run(options, layout))
            options.output.write_text("\n".join(sections))
        print(f"written: {options.output}")
        return 0
    except (TestbedError, BuildError) as error:
        print(f"The benchmark failed: {error}", file=sys.stderr)
        return 1
    finally:
        sweep.clean()


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--image", choices=sorted(bench_start.APPS), default="nodeapp",
                        help="test image (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="of each measurement (default: %(default)s)")
    parser.add_argument("--rate", default="300mbit", help="of the registry's link (default: %(default)s)")
    parser.add_argument("--latency", type=float, default=0, metavar="MS",
                        help="added round trip of the registry's link (default: none)")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART",
                        help=f"these parts alone: {', '.join(PARTS)} (default: all)")
    parser.add_argument("--output", type=pathlib.Path, default=CHECKOUT / "bench/RESULTS.md")
    parser.add_argument("--note", default="", help="a sentence about the circumstances, for the report")
    options = parser.parse_args()
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    return options


def machine(options):
    """What a reader needs to judge the numbers, or to repeat them."""
    load = os.getloadavg()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cpu = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "?")
    lines = ["# Results", "",
             f"Written by `bench/run.py --image {options.image} --runs {options.runs} --rate {options.rate}` on "
             f"{datetime.date.today()}, commit {first_line('git', '-C', CHECKOUT, 'rev-parse', '--short', 'HEAD')}.", "",
             f"- Machine: {os.cpu_count()} x {cpu}, {memory:.0f} GiB; load average at the start "
             f"{load[0]:.1f}, {load[1]:.1f}, {load[2]:.1f}",
             f"- Linux {platform.release()}; {first_line('containerd', '--version')}; {first_line('runc', '--version')}; "
             f"{first_line('docker-registry', '--version')}",
             f"- Image `{options.image}`: {catalogue.recipe(options.image).DESCRIPTION}"]
    if load[0] > os.cpu_count():
        lines.append("- The machine was busy with other work while this ran: the medians are worse than an idle "
                     "machine's, and differences below 1.3 times mean nothing.")
    if options.note:
        lines.append(f"- {options.note}")
    return "\n".join(lines) + "\n"


def first_line(*argv):
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).splitlines()[0].strip() if done.stdout or done.stderr else "?"


if __name__ == "__main__":
    if os.geteuid() != 0:
        sys.exit("The benchmarks need root: they make network namespaces, mounts and containers.")
    sys.exit(main())
