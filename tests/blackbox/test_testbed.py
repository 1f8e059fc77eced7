"""The testbed itself, with real parts: what other tests stand on must hold."""

import json
import urllib.error
import urllib.request

import pytest

from testbed import Containerd, CtrError, PrivateCa, Registry, TokenServer, copy_layout, run, sweep, wait_until
from testbed.fixtures import require
from testbed.process import Process, free_port
from images import oci_layout


@pytest.fixture
def small(images):
    return images("small")


def http_get(url, timeout=2):
    try:
        with urllib.request.urlopen(url, timeout=timeout) as reply:
            return reply.read()
    except OSError:
        return None


def largest_layer(layout):
    manifest, _ = oci_layout.load_manifest(layout, "latest")
    return max(manifest["layers"], key=lambda layer: layer["size"])


def test_containerd_pulls_and_runs_what_skopeo_pushed(registry, containerd):
    mark = registry.mark()
    containerd.pull(registry.ref("small"))
    out = containerd.run(registry.ref("small"), ["/bin/sh", "-c", "echo $((40 + 2))"])
    assert out == "42\n"
    assert registry.bytes_served("blob", since=mark) > 1000000


def test_served_bytes_are_counted_per_digest(registry, containerd, small):
    layer = largest_layer(small)
    mark = registry.mark()
    containerd.pull(registry.ref("small"))
    wait_until(lambda: registry.bytes_served(digest=layer["digest"], since=mark) == layer["size"], 5,
               "the layer's bytes are in the access log")


def test_detached_container_serves_http_and_can_be_killed(registry, containerd):
    containerd.pull(registry.ref("small"))
    port = free_port()
    container = containerd.run_detached(registry.ref("small"), env={"PORT": port})
    body = wait_until(lambda: http_get(f"http://127.0.0.1:{port}/"), 20, "the container answers")
    assert body == b"hello from small\n"
    assert containerd.exec(container, ["/bin/echo", "inside"]) == "inside\n"
    containerd.kill(container)
    assert http_get(f"http://127.0.0.1:{port}/") is None
    assert containerd.tasks() == {}


def test_containers_survive_a_crash_of_containerd(registry, containerd):
    containerd.pull(registry.ref("small"))
    container = containerd.run_detached(registry.ref("small"), ["/bin/sleep", "1000"])
    containerd.kill9()
    containerd.start()
    assert containerd.tasks()[container][1] == "RUNNING"


def test_registry_keeps_port_and_images_over_a_restart(own_registry, small):
    digest = copy_layout(small, "latest", own_registry, "app")
    own_registry.restart()
    url = f"{own_registry.url}/v2/app/manifests/{digest}"
    request = urllib.request.Request(url, headers={"Accept": oci_layout.OCI_MANIFEST})
    assert len(json.load(urllib.request.urlopen(request))["layers"]) == 2


def test_corrupt_blob_on_disk_fails_the_pull(own_registry, containerd, small):
    copy_layout(small, "latest", own_registry, "app")
    path = own_registry.blob_path(largest_layer(small)["digest"])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CtrError):
        containerd.pull(own_registry.ref("app"))


def test_basic_authentication(containerd, small):
    require(Registry)
    with Registry(users={"joe": "secret"}) as registry:
        copy_layout(small, "latest", registry, "app", user="joe:secret")
        with pytest.raises(CtrError, match="401|authorization failed"):
            containerd.pull(registry.ref("app"), user="joe:wrong")
        containerd.pull(registry.ref("app"), user="joe:secret")


def test_token_authentication_and_expiry(containerd, small):
    require(Registry)
    with TokenServer(users={"joe": "secret"}) as tokens, Registry(token=tokens) as registry:
        copy_layout(small, "latest", registry, "app", user="joe:secret")
        with pytest.raises(CtrError):
            containerd.pull(registry.ref("app"))
        containerd.pull(registry.ref("app"), user="joe:secret")
        assert tokens.grants[-1]["access"][0]["name"] == "app"
        expired = tokens.sign("joe", [{"type": "repository", "name": "app", "actions": ["pull"]}])
        assert status_with_token(registry, expired) == 200
        tokens.lifetime = -1
        expired = tokens.sign("joe", [{"type": "repository", "name": "app", "actions": ["pull"]}])
        assert status_with_token(registry, expired) == 401


def status_with_token(registry, token):
    request = urllib.request.Request(f"{registry.url}/v2/app/tags/list", headers={"Authorization": f"Bearer {token}"})
    try:
        return urllib.request.urlopen(request).status
    except urllib.error.HTTPError as error:
        return error.code


def test_tls_with_a_private_authority(containerd, small, tmp_path):
    require(Registry)
    authority = PrivateCa(tmp_path)
    with Registry(ca=authority) as registry:
        copy_layout(small, "latest", registry, "app")
        containerd.trust_ca(registry.address, registry.ca_path)
        containerd.pull(registry.ref("app"))


def test_sweep_sees_what_is_left():
    folder = run.new_dir("left")
    process = Process(["sleep", "1000"], folder / "log").start()
    # The kernel shows a program's environment a moment after exec.
    wait_until(lambda: any(f"process {process.pid}:" in line for line in sweep.leftovers()), 5, "the process is seen")
    assert f"folder {folder}" in sweep.leftovers()
    process.kill()
    run.remove_dir(folder)
    assert not any(str(folder) in line or f"process {process.pid}:" in line for line in sweep.leftovers())


def test_two_containerds_side_by_side(registry, containerd):
    require(Containerd)
    with Containerd() as other:
        other.pull(registry.ref("small"))
        assert containerd.content_digests() == []
        assert other.run(registry.ref("small"), ["/bin/true"]) == ""
