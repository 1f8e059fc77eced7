"""Start: seconds from the beginning of the pull to the first HTTP 200, plain containerd and Pagein."""

import contextlib
import statistics

from testbed import LatencyProxy, Pagein, Registry, ShapedLink, push_image, start_time

APPS = start_time.APPS


def run(options, layout):
    """The report's section, in Markdown."""
    app = APPS[options.image]
    plain, lazy, recorded, warm, cold = [], [], [], [], []
    with contextlib.ExitStack() as stack:
        link = stack.enter_context(ShapedLink())
        registry = stack.enter_context(Registry(netns=link.name, host=link.host))
        push_image(layout, "latest", registry, app.repository)
        Pagein().run("convert", "--plain-http", "--no-cache", registry.ref(app.repository), timeout=600)
        start_time.convert_recorded(registry, app)
        link.set_rate(options.rate)
        far = stack.enter_context(LatencyProxy(registry, options.latency)) if options.latency else registry
        # In turn, so that a busy spell of the machine meets both.
        for number in range(options.runs):
            plain.append(start_time.measure_plain(link, far, app))
            print(f"  run {number + 1}: plain ready after {plain[-1].ready_seconds:.1f} s", flush=True)
            lazy.append(start_time.measure_lazy(link, far, app))
            print(f"  run {number + 1}: Pagein ready after {lazy[-1].ready_seconds:.1f} s, "
                  f"whole after {lazy[-1].local_seconds:.1f} s", flush=True)
            recorded.append(start_time.measure_lazy(link, far, app, suffix=start_time.RECORDED))
            print(f"  run {number + 1}: Pagein with a recorded start ready after {recorded[-1].ready_seconds:.1f} s, "
                  f"whole after {recorded[-1].local_seconds:.1f} s", flush=True)
            for starts, start in zip((warm, cold), start_time.measure_local(link, far, app)):
                starts.append(start)
            print(f"  run {number + 1}: all local, ready after {warm[-1].ready_seconds:.1f} s warm, "
                  f"{cold[-1].ready_seconds:.1f} s cold", flush=True)
    latency = f" and a round trip of {options.latency:g} ms" if options.latency else ""
    lines = [f"## Start over a link of {options.rate}{latency}", "",
             "Every run has a fresh containerd and store; the page cache is dropped, then the registry's own files are "
             "read in. Median (smallest-largest) of the runs.", "",
             "| | pull s | ready s, pull included | whole image local s | MB fetched at ready |", "|---|---|---|---|---|",
             _row("containerd, overlayfs", plain), _row("Pagein, index only", lazy),
             _row("Pagein, index only, startup pack of a recorded start", recorded),
             _row("floor: all local, page cache dropped", cold), _row("floor: all local and warm", warm), "",
             f"The link alone takes {plain[0].local_bytes * 8 / _bits_per_second(options.rate):.1f} s for the "
             f"{plain[0].local_bytes / 1e6:.0f} MB of the plain pull.", ""]
    lines += ["Of Pagein's runs, up to the first HTTP 200:", "", "| | median (smallest-largest) | with a recorded start |",
              "|---|---|---|"]
    for title, metric in _METRICS:
        cells = [_spread([_total(start.metrics, metric) for start in starts]) for starts in (lazy, recorded)]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


_METRICS = [("reads that had to wait for the network", "pagein_read_misses_total"),
            ("seconds that reads waited, summed", "pagein_read_wait_seconds_total"),
            ("page-in flights", "pagein_fetch_flights_total"),
            ("HTTP requests", "pagein_http_requests_total"),
            ("HTTP connections", "pagein_http_connects_total"),
            ("reads that a startup pack had brought", "pagein_startup_hits_total")]


_UNITS = {"kbit": 1e3, "mbit": 1e6, "gbit": 1e9}


def _bits_per_second(rate):
    """Of what tc calls 300mbit."""
    for unit, factor in _UNITS.items():
        if rate.endswith(unit):
            return float(rate[:-len(unit)]) * factor
    return float(rate.removesuffix("bit"))


def _total(metrics, name):
    return sum(value for key, value in metrics.items() if key.split("{")[0] == name)


def _row(title, starts):
    columns = [[start.pull_seconds for start in starts], [start.ready_seconds for start in starts],
               [start.local_seconds for start in starts], [start.ready_bytes / 1e6 for start in starts]]
    return f"| {title} | " + " | ".join(map(_spread, columns)) + " |"


def _spread(values):
    digits = 0 if statistics.median(values) >= 100 else 1
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"
