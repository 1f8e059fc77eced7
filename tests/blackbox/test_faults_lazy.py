"""Whatever the registry or the road to it does, a reader of a lazy image gets the right bytes or EIO."""

import errno
import time

import pytest

from testbed import (
    Containerd, CorruptByte, Delay, FaultProxy, Hang, Pagein, Pageind, Redirect, Registry, Reset, StatusCode,
    Truncate, WholeBlob, WrongContentRange, WrongData, drop_caches, lazy, run, wait_until)
from testbed.fixtures import require

DEADLINE = 3
SIZE = 12 << 20
FILES = {"big": lazy.text_bytes(SIZE, 1), "other": lazy.text_bytes(2 << 20, 2)}
BIG = lazy.sha256(FILES["big"])
MIB = 1 << 20


def _name(fault):
    """A fault as a test's name."""
    values = [str(value) for value in vars(fault).values() if isinstance(value, (int, float))]
    return "-".join([type(fault).__name__, *values])


@pytest.fixture(scope="module")
def image(images):
    """(registry, layer descriptor) of an accelerated image `app` above `small`."""
    require(Registry, Pagein, Pageind)
    with Registry() as registry, lazy.folder("layout") as folder:
        layers = lazy.push_accelerated(lazy.make_layout(folder, [FILES], images("small")), registry, "app")
        yield registry, layers[-1]


@pytest.fixture
def proxy(image):
    with FaultProxy(image[0]) as started:
        yield started


@pytest.fixture
def pageind(proxy):
    config = {"fetch": {"deadline_seconds": DEADLINE, "background": False},
              "trust": {"repositories": [proxy.address + "/*"]}}
    with Pageind(config) as started:
        yield started


@pytest.fixture
def big(pageind, proxy):
    """The file `big` of the image, mounted through the proxy while that behaved."""
    return lazy.mount(pageind, proxy.ref("app", lazy.ACCELERATED)) / "big"


def part(first, length):
    return lazy.sha256(FILES["big"][first:first + length])


def assert_recovers(pageind, proxy, big):
    """Once the fault is over, the same mount yields everything, with no restart."""
    proxy.clear()
    pid = pageind.pid
    assert lazy.read(big) == BIG
    assert pageind.running() and pageind.pid == pid


def layer_rule(image, **more):
    return {"kind": "blob", "digest": image[1]["digest"], **more}


def test_without_faults(big, pageind):
    assert lazy.read(big) == BIG
    assert pageind.metric("pagein_verify_failures_total") == 0
    assert pageind.metric("pagein_read_errors_total") == 0


def test_a_byte_corrupted_once_is_fetched_again(image, proxy, pageind, big):
    rule = proxy.add(CorruptByte(3 * MIB), times=1, **layer_rule(image, overlaps=(3 * MIB, 3 * MIB + 1)))
    assert lazy.read(big) == BIG
    assert rule.hits == 1
    assert pageind.metric("pagein_verify_failures_total") > 0
    assert pageind.metric("pagein_read_errors_total") == 0


def test_bytes_corrupted_always_are_never_handed_out(image, proxy, pageind, big):
    proxy.add(CorruptByte(3 * MIB), **layer_rule(image))
    assert lazy.read(big, timeout=DEADLINE * 4) == errno.EIO
    assert lazy.read(big, 8 * MIB, MIB) == part(8 * MIB, MIB), "elsewhere all is well"
    assert pageind.metric("pagein_read_errors_total") > 0
    assert any("EIO" in line and image[1]["digest"] in line for line in pageind.log_text().splitlines())
    assert_recovers(pageind, proxy, big)


def test_many_corrupt_bytes(image, proxy, pageind, big):
    proxy.add(CorruptByte(100, every=50000, mask=0xFF), **layer_rule(image))
    for offset in range(0, SIZE, 2 * MIB):
        assert lazy.read(big, offset, 4096, timeout=DEADLINE * 4) in (errno.EIO, part(offset, 4096))
    assert_recovers(pageind, proxy, big)


def test_bytes_of_another_place(image, proxy, pageind, big):
    proxy.add(WrongData(4096), **layer_rule(image, ranged=True))
    assert lazy.read(big, 5 * MIB, 100000, timeout=DEADLINE * 4) == errno.EIO
    assert_recovers(pageind, proxy, big)


@pytest.mark.parametrize("fault", [
    Truncate(after=5000), Truncate(after=0), Reset(), Reset(after=0), Reset(after=70000), StatusCode(500),
    StatusCode(503), StatusCode(429, retry_after=1), StatusCode(503, retry_after=1), WrongContentRange(512),
    StatusCode(404), StatusCode(403), Delay(0.3)], ids=_name)
def test_a_fault_that_passes_is_not_seen(image, proxy, pageind, big, fault):
    rule = proxy.add(fault, times=2, **layer_rule(image, ranged=True))
    answer = lazy.read(big, timeout=DEADLINE * 5)
    assert rule.hits > 0
    if isinstance(fault, StatusCode) and fault.status in (403, 404):
        assert answer in (BIG, errno.EIO), "nothing says that it will pass"
    else:
        assert answer == BIG
    assert_recovers(pageind, proxy, big)


@pytest.mark.parametrize("fault", [
    Truncate(after=5000), Reset(after=70000), StatusCode(500), StatusCode(429, retry_after=60),
    WrongContentRange(512), StatusCode(404)], ids=_name)
def test_a_fault_that_stays_ends_in_eio_or_in_right_bytes(image, proxy, pageind, big, fault):
    proxy.add(fault, **layer_rule(image, ranged=True))
    started = time.monotonic()
    answer = lazy.read(big, 4 * MIB, 512 * 1024, timeout=DEADLINE + 8)
    assert answer in (errno.EIO, part(4 * MIB, 512 * 1024))
    assert answer == errno.EIO or fault in (Truncate(after=5000), Reset(after=70000)), "progress, piece by piece"
    assert time.monotonic() - started < DEADLINE + 6
    assert_recovers(pageind, proxy, big)


def test_a_registry_that_ignores_ranges(image, proxy, pageind, big):
    rule = proxy.add(WholeBlob(), ranged=True, **layer_rule(image))
    assert lazy.read(big, 6 * MIB, MIB, timeout=DEADLINE * 4) == part(6 * MIB, MIB)
    assert rule.hits > 0
    assert lazy.read(big, timeout=60) == BIG
    assert_recovers(pageind, proxy, big)


@pytest.mark.parametrize("fault", [Hang(), Hang(after=3000)], ids=_name)
def test_a_hanging_registry_ends_in_eio_at_the_deadline(image, proxy, pageind, big, fault):
    proxy.add(fault, **layer_rule(image))
    started = time.monotonic()
    assert lazy.read(big, 0, 4096, timeout=DEADLINE + 8) == errno.EIO
    assert DEADLINE - 1 < time.monotonic() - started < DEADLINE + 5
    assert_recovers(pageind, proxy, big)


def test_a_waiting_reader_can_be_killed(image, proxy, pageind, big):
    rule = proxy.add(Hang(), **layer_rule(image))
    with lazy.Reader(big) as reader:
        wait_until(lambda: rule.hits > 0, 10, "the read reaches the registry")
        assert reader.running()
        reader.kill(timeout=3)
    assert_recovers(pageind, proxy, big)


def test_one_hanging_answer_does_not_hold_up_other_reads(image, proxy, pageind, big):
    rule = proxy.add(Hang(), times=1, **layer_rule(image))
    with lazy.Reader(big, 0, 4096) as stuck:
        wait_until(lambda: rule.hits > 0, 10, "the read reaches the registry")
        assert lazy.read(big, 8 * MIB, MIB, timeout=3) == part(8 * MIB, MIB)
        assert lazy.read(big.parent / "other", timeout=3) == lazy.sha256(FILES["other"])
        assert stuck.result(DEADLINE + 8) in (errno.EIO, part(0, 4096))
    assert_recovers(pageind, proxy, big)


def test_connections_cut_in_the_middle(image, proxy, pageind, big):
    rule = proxy.add(Hang(after=100000), times=1, **layer_rule(image))
    with lazy.Reader(big) as reader:
        wait_until(lambda: rule.hits > 0, 10, "the read reaches the registry")
        proxy.cut_connections()
        assert reader.result(DEADLINE * 4) == BIG


def test_redirects_that_expire(image, proxy, pageind, big):
    proxy.add(Redirect(), kind="blob")
    assert lazy.read(big, 0, MIB) == part(0, MIB)
    proxy.expire_redirects()
    assert lazy.read(big) == BIG
    assert proxy.requests("storage")


@pytest.mark.parametrize("fault", [CorruptByte(50), CorruptByte(200), Truncate(after=100), StatusCode(404)], ids=_name)
def test_a_bad_index_head_is_refused_with_a_clear_error(image, proxy, pageind, fault):
    index, _, _ = lazy.index_of(image[1])
    proxy.add(fault, kind="blob", digest=index)
    done = lazy.mount(pageind, proxy.ref("app", lazy.ACCELERATED), check=False)
    assert done.returncode != 0
    assert image[1]["digest"] in done.stderr or index in done.stderr, done.stderr
    assert not run.mounts_below(pageind.folder / "mnt")
    proxy.clear()
    assert lazy.read(lazy.mount(pageind, proxy.ref("app", lazy.ACCELERATED)) / "big") == BIG


def test_corrupt_checkpoints_never_show(image, proxy, pageind, big):
    index, size, head = lazy.index_of(image[1])
    assert size > head
    rule = proxy.add(CorruptByte(head + 7, every=64, mask=0x55), kind="blob", digest=index, overlaps=(head, size))
    for offset in range(MIB, SIZE, 3 * MIB):
        assert lazy.read(big, offset, 8192, timeout=DEADLINE * 4) in (errno.EIO, part(offset, 8192))
    assert rule.hits > 0
    assert_recovers(pageind, proxy, big)


def test_checkpoints_that_do_not_come(image, proxy, pageind, big):
    index, size, head = lazy.index_of(image[1])
    proxy.add(StatusCode(404), kind="blob", digest=index, overlaps=(head, size))
    assert lazy.read(big, 7 * MIB, 4096, timeout=DEADLINE * 4) == errno.EIO
    assert_recovers(pageind, proxy, big)


def test_a_container_on_a_bad_road(image, proxy, pageind):
    require(Containerd)
    proxy.add(CorruptByte(4 * MIB), times=1, **layer_rule(image, overlaps=(4 * MIB, 4 * MIB + 1)))
    proxy.add(Reset(after=200000), times=2, **layer_rule(image))
    proxy.add(StatusCode(503), times=2, **layer_rule(image))
    with Containerd(snapshotters={"pagein": pageind.address}) as containerd:
        reference = proxy.ref("app", lazy.ACCELERATED)
        Pagein().run("pull", "-a", containerd.address, "-n", containerd.namespace, reference)
        drop_caches()
        words = containerd.run(reference, ["/bin/sha256sum", "/big"], snapshotter="pagein").split()
        assert words[0] == BIG
        assert pageind.metric("pagein_verify_failures_total") > 0
