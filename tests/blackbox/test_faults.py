"""The fault proxy and the links do what they say, seen by plain clients and by containerd."""

import http.client
import time
import urllib.error
import urllib.request

import pytest

from images import oci_layout
from testbed import (
    Containerd, CorruptByte, CtrError, Delay, FaultProxy, Hang, LatencyProxy, PrivateCa, Redirect, Registry, Reset,
    ShapedLink, StatusCode, Truncate, WholeBlob, WrongContentRange, WrongData, copy_layout, push_image, wait_until)
from testbed.fixtures import require


@pytest.fixture(scope="module")
def blob(images):
    """(digest, bytes) of the largest layer of `small`."""
    manifest, paths = oci_layout.load_manifest(images("small"), "latest")
    path = max(paths, key=lambda path: path.stat().st_size)
    return f"sha256:{path.name}", path.read_bytes()


@pytest.fixture
def proxy(registry):
    with FaultProxy(registry) as started:
        yield started


def get(proxy, digest, span=None, timeout=5):
    """(status, headers, body) of a blob request through the proxy; HTTP errors are answers too."""
    request = urllib.request.Request(f"{proxy.url}/v2/small/blobs/{digest}")
    if span:
        request.add_header("Range", f"bytes={span[0]}-{span[1] - 1}")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            return reply.status, reply.headers, reply.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def test_without_faults_everything_passes_and_is_counted(proxy, blob):
    digest, data = blob
    assert get(proxy, digest)[2] == data
    assert get(proxy, digest, (100, 200))[::2] == (206, data[100:200])
    wait_until(lambda: proxy.bytes_sent("blob", digest) == len(data) + 100, 5, "all is counted")
    assert [request.range for request in proxy.requests("blob")] == [None, (100, 200)]


def test_push_and_pull_through_the_proxy(proxy, containerd, images):
    copy_layout(images("small"), "latest", proxy, "through")
    push_image(images("small"), "latest", proxy, "through2")
    containerd.pull(proxy.ref("through"))
    assert containerd.run(proxy.ref("through"), ["/bin/echo", "ok"]) == "ok\n"
    assert proxy.bytes_sent("manifest") > 0


def test_corrupt_byte_makes_a_plain_pull_fail(proxy, containerd, blob):
    # A second pull by the same containerd may fail too: it resumes the bad download where it ended.
    proxy.add(CorruptByte(5000), kind="blob", digest=blob[0])
    with pytest.raises(CtrError, match="unexpected commit digest"):
        containerd.pull(proxy.ref("small"))


def test_without_its_rule_the_fault_is_gone(proxy, containerd, blob):
    proxy.add(CorruptByte(5000), kind="blob", digest=blob[0])
    proxy.clear()
    containerd.pull(proxy.ref("small"))


def test_corrupt_byte_lies_at_its_place_of_the_blob(proxy, blob):
    digest, data = blob
    proxy.add(CorruptByte(5000, mask=0xFF))
    body = get(proxy, digest)[2]
    assert [index for index in range(len(data)) if body[index] != data[index]] == [5000]
    assert get(proxy, digest, (4990, 5010))[2][10] == data[5000] ^ 0xFF
    assert get(proxy, digest, (5001, 5010))[2] == data[5001:5010]


def test_corrupt_every(proxy, blob):
    digest, data = blob
    proxy.add(CorruptByte(10, every=100000))
    body = get(proxy, digest, (50, 300000))[2]
    assert [index + 50 for index in range(len(body)) if body[index] != data[index + 50]] == [100010, 200010]


def test_skip_times_and_overlaps(proxy, blob):
    digest = blob[0]
    rule = proxy.add(StatusCode(503), ranged=True, overlaps=(1000, 2000), skip=1, times=2)
    asked = [(0, 1000), (0, 1001), (1999, 2001), (0, 5000), (2000, 3000), (1500, 1600)]
    assert [get(proxy, digest, span)[0] for span in asked] == [206, 206, 503, 503, 206, 206]
    assert rule.hits == 2


@pytest.mark.parametrize("status", [401, 403, 429, 500, 503])
def test_status_and_retry_after(proxy, blob, status):
    proxy.add(StatusCode(status, retry_after=7), kind="blob")
    answer, headers, _ = get(proxy, blob[0])
    assert (answer, headers["Retry-After"]) == (status, "7")


def test_truncate_and_reset(proxy, blob):
    rule = proxy.add(Truncate(after=1000))
    with pytest.raises(http.client.IncompleteRead) as caught:
        get(proxy, blob[0])
    assert len(caught.value.partial) == 1000
    proxy.remove(rule)
    proxy.add(Reset(after=100000))
    with pytest.raises(ConnectionResetError):
        get(proxy, blob[0])
    proxy.clear()
    proxy.add(Reset())
    with pytest.raises((ConnectionResetError, urllib.error.URLError)):
        get(proxy, blob[0])


def test_range_lies(proxy, blob):
    digest, data = blob
    rule = proxy.add(WholeBlob(), ranged=True)
    assert get(proxy, digest, (100, 200))[::2] == (200, data)
    proxy.remove(rule)
    rule = proxy.add(WrongContentRange(512))
    status, headers, body = get(proxy, digest, (100, 200))
    assert (status, headers["Content-Range"], body) == (206, f"bytes 612-711/{len(data)}", data[100:200])
    proxy.remove(rule)
    proxy.add(WrongData(4096))
    status, headers, body = get(proxy, digest, (100, 200))
    assert (status, headers["Content-Range"], body) == (206, f"bytes 100-199/{len(data)}", data[4196:4296])


def test_hang_until_released(proxy, blob):
    proxy.add(Hang(after=10), times=1)
    with pytest.raises(TimeoutError):
        get(proxy, blob[0], timeout=0.3)
    proxy.add(Hang(), times=1)
    with pytest.raises((TimeoutError, urllib.error.URLError)):
        get(proxy, blob[0], timeout=0.3)
    assert get(proxy, blob[0])[0] == 200
    proxy.release()
    wait_until(lambda: all(request.seconds for request in proxy.requests()), 5, "hanging requests end")


def test_delay_combines_with_other_faults(proxy, blob):
    proxy.add(Delay(0.2))
    proxy.add(StatusCode(500))
    started = time.monotonic()
    assert get(proxy, blob[0])[0] == 500
    assert time.monotonic() - started >= 0.2


def test_redirects_expire_and_get_no_credentials(proxy, blob):
    digest, data = blob
    proxy.add(Redirect(), kind="blob")
    assert get(proxy, digest, (5, 50))[::2] == (206, data[5:50])
    stored = proxy.requests("storage")[0]
    assert (stored.reference, stored.range, stored.authorization) == (digest, (5, 50), "")
    url = f"http://127.0.0.1:{proxy.storage_port}{stored.path}"
    assert urllib.request.urlopen(url).read() == data
    proxy.expire_redirects()
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(url)
    assert get(proxy, digest)[2] == data, "a new redirect serves"


def test_redirects_keep_working_with_a_registry_that_wants_a_password(images, containerd):
    require(Registry)
    with Registry(users={"joe": "secret"}) as registry, FaultProxy(registry) as proxy:
        copy_layout(images("small"), "latest", registry, "small", user="joe:secret")
        proxy.add(Redirect(), kind="blob")
        containerd.pull(proxy.ref("small"), user="joe:secret")
        assert proxy.requests("storage")
        assert {request.authorization for request in proxy.requests("storage")} == {""}


def test_tls_front(registry, containerd, tmp_path):
    with FaultProxy(registry, ca=PrivateCa(tmp_path)) as proxy:
        containerd.trust_ca(proxy.address, proxy.ca_path)
        containerd.pull(proxy.ref("small"))
        assert proxy.requests("blob")


def test_latency_proxy_delays_by_a_round_trip(registry, blob):
    digest, data = blob
    with LatencyProxy(registry, rtt_ms=60) as slow:
        started = time.monotonic()
        assert get(slow, digest)[2] == data
        first = time.monotonic() - started
    assert first >= 0.12, "one round trip to connect, one to ask"
    assert first < 2


def test_shaped_link_limits_and_counts(images, blob):
    require(Registry, ShapedLink, Containerd)
    with ShapedLink("20mbit") as link, Registry(netns=link.name, host=link.host) as registry:
        push_image(images("small"), "latest", registry, "small")
        before = link.bytes_sent()
        started = time.monotonic()
        assert get(registry, blob[0])[2] == blob[1]
        seconds = time.monotonic() - started
        sent = link.bytes_sent() - before
        assert len(blob[1]) < sent < len(blob[1]) * 1.2
        # The bucket's burst is 256 KiB; the rest comes at 2.5 MB/s.
        assert (len(blob[1]) - 262144) / 2500000 * 0.9 < seconds < 5
        with Containerd(insecure=[registry.address]) as containerd:
            containerd.pull(registry.ref("small"))
            assert containerd.run(registry.ref("small"), ["/bin/echo", "far"]) == "far\n"


def test_link_can_be_cut_and_joined(images, blob):
    require(Registry, ShapedLink)
    with ShapedLink() as link, Registry(netns=link.name, host=link.host) as registry:
        push_image(images("small"), "latest", registry, "small")
        link.cut()
        with pytest.raises(OSError):
            get(registry, blob[0], timeout=0.5)
        link.join()
        assert get(registry, blob[0])[2] == blob[1]
