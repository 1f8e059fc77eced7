"""The test images are what they claim: containerd pulls each with its ordinary snapshotter, and it starts."""

import urllib.request

import pytest

from images import catalogue, oci_layout
from testbed import Containerd, Registry, copy_layout, wait_until
from testbed.fixtures import require
from testbed.process import free_port


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return reply.status == 200 and reply.read()
    except OSError:
        return None


# Path to ask, and how many layers there are at least.
SERVERS = {"small": ("/index.html", 2), "python": ("/", 4), "nodeapp": ("/healthz/readiness", 8)}


@pytest.mark.parametrize("name", SERVERS)
def test_server_image_starts_and_answers(name, images):
    require(Registry, Containerd)
    path, layers = SERVERS[name]
    layout = images(name)
    assert len(oci_layout.load_manifest(layout, "latest")[1]) >= layers
    with Registry() as registry, Containerd() as containerd:
        copy_layout(layout, "latest", registry, name)
        containerd.pull(registry.ref(name))
        port = free_port()
        containerd.run_detached(registry.ref(name), env={"PORT": port})
        assert wait_until(lambda: answers(f"http://127.0.0.1:{port}{path}"), 60, f"{name} answers")


def test_every_recipe_is_described():
    for name in catalogue.NAMES:
        assert catalogue.recipe(name).DESCRIPTION
