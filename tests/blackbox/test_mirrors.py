"""hosts.toml, as containerd reads it: mirrors serve, and a bad mirror cannot hurt."""

import pytest

from testbed import (
    CorruptByte, FaultProxy, Hang, Pagein, Pageind, PrivateCa, Registry, Reset, StatusCode, Truncate, WholeBlob, lazy,
    push_image, run)
from testbed.fixtures import require

MIB = 1 << 20
FILES = {"big": lazy.text_bytes(6 * MIB, 1)}
BIG = lazy.sha256(FILES["big"])
FAULTS = [StatusCode(404), StatusCode(500), StatusCode(429, retry_after=60), StatusCode(401), StatusCode(403), Reset(),
          Truncate(after=5000), Hang(), WholeBlob(), CorruptByte(100, every=5000)]


def _name(fault):
    values = [str(value) for value in vars(fault).values() if isinstance(value, (int, float))]
    return "-".join([type(fault).__name__, *values])


@pytest.fixture(scope="module")
def image(images):
    """(registry, layer descriptor) of an accelerated image `app`."""
    require(Registry, Pagein, Pageind)
    with Registry() as registry, lazy.folder("layout") as folder:
        layers = lazy.push_accelerated(lazy.make_layout(folder, [FILES], images("small")), registry, "app")
        yield registry, layers[-1]


@pytest.fixture
def front(image):
    """The registry that images are named by: what is asked of it is counted."""
    with FaultProxy(image[0]) as started:
        yield started


@pytest.fixture
def mirror(image):
    with FaultProxy(image[0]) as started:
        yield started


def write_hosts(folder, registry, text):
    """A certs.d folder whose hosts.toml for the registry is `text`."""
    place = folder / f"{registry.host}_{registry.port}_"
    place.mkdir(parents=True, exist_ok=True)
    (place / "hosts.toml").write_text(text)
    return folder


@pytest.fixture
def hosts(front, mirror):
    with lazy.folder("certs") as folder:
        yield write_hosts(folder, front, f'server = "{front.url}"\n[host."{mirror.url}"]\n'
                                         'capabilities = ["pull", "resolve"]\n')


@pytest.fixture
def pageind(front, hosts):
    config = {"fetch": {"deadline_seconds": 30, "background": False}, "registry": {"hosts_dir": str(hosts)},
              "trust": {"repositories": [front.address + "/*"]}}
    with Pageind(config) as started:
        yield started


def test_the_mirror_serves_everything(front, mirror, pageind):
    point = lazy.mount(pageind, front.ref("app", lazy.ACCELERATED))
    assert lazy.read(point / "big") == BIG
    assert not front.requests()
    assert all(f"ns={front.host}%3A{front.port}" in request.path for request in mirror.requests())


@pytest.mark.parametrize("fault", FAULTS, ids=_name)
def test_a_bad_mirror_cannot_hurt(front, mirror, pageind, fault):
    mirror.add(fault)
    point = lazy.mount(pageind, front.ref("app", lazy.ACCELERATED))
    assert lazy.read(point / "big") == BIG
    assert pageind.metric("pagein_read_errors_total") == 0
    assert front.requests()
    assert mirror.requests()


@pytest.mark.parametrize("fault", FAULTS, ids=_name)
def test_a_mirror_that_turns_bad_cannot_hurt(front, mirror, pageind, fault):
    point = lazy.mount(pageind, front.ref("app", lazy.ACCELERATED))
    assert not front.requests()
    mirror.add(fault)
    assert lazy.read(point / "big") == BIG
    assert pageind.metric("pagein_read_errors_total") == 0


def test_a_mirror_that_hangs_rests(front, mirror, pageind):
    point = lazy.mount(pageind, front.ref("app", lazy.ACCELERATED))
    mirror.forget_requests()
    mirror.add(Hang())
    assert lazy.read(point / "big", 0, MIB) == lazy.sha256(FILES["big"][:MIB])
    asked = len(mirror.requests())
    assert lazy.read(point / "big", 4 * MIB, MIB) == lazy.sha256(FILES["big"][4 * MIB:5 * MIB])
    assert len(mirror.requests()) == asked


def test_the_registry_is_down_and_the_mirror_serves(front, mirror, pageind):
    front.add(StatusCode(503))
    assert lazy.read(lazy.mount(pageind, front.ref("app", lazy.ACCELERATED)) / "big") == BIG


def test_inspect_and_convert_read_from_the_mirror(front, mirror, hosts):
    report = Pagein().json("inspect", "--hosts-dir", hosts, front.ref("app", lazy.ACCELERATED))
    assert report["images"]
    assert not front.requests()
    with lazy.folder("out") as out:
        Pagein().run("convert", "--no-cache", "--hosts-dir", hosts, front.ref("app"), f"oci:{out / 'layout'}:x")
    assert not front.requests("blob")
    assert mirror.requests("blob")


def test_pushes_go_to_a_host_that_may(front, mirror, hosts):
    Pagein().run("convert", "--no-cache", "--hosts-dir", hosts, front.ref("app"), front.ref("pushed", "x"))
    assert not mirror.requests(method="PUT")
    assert front.requests(method="PUT")


def test_a_custom_domain_name(image, hosts):
    """A name that no DNS knows: its hosts.toml says where it is."""
    registry = image[0]
    place = hosts / "images.test"
    place.mkdir()
    (place / "hosts.toml").write_text(f'server = "{registry.url}"\n')
    report = Pagein().json("inspect", "--hosts-dir", hosts, f"images.test/app:{lazy.ACCELERATED}")
    assert report["digest"].startswith("sha256:")


@pytest.mark.parametrize("setting", ["ca", "skip_verify", "neither"])
def test_a_private_ca(images, setting):
    require(Registry, Pagein)
    folder = run.new_dir("pki")
    try:
        with Registry(ca=PrivateCa(folder)) as registry:
            push_image(images("small"), "latest", registry, "small")
            text = {"ca": f'ca = "{registry.ca_path}"\n', "skip_verify": "skip_verify = true\n", "neither": ""}[setting]
            hosts = write_hosts(folder / "certs", registry, f'server = "{registry.url}"\n{text}')
            done = Pagein().run("inspect", "--hosts-dir", hosts, registry.ref("small"), check=False)
            assert (done.returncode == 0) == (setting != "neither"), done.stderr
            if done.returncode:
                assert "CA" in done.stderr
    finally:
        run.remove_dir(folder)


def test_a_broken_hosts_file_is_named(front, hosts):
    write_hosts(hosts, front, "[host")
    done = Pagein().run("inspect", "--hosts-dir", hosts, front.ref("app"), check=False)
    assert done.returncode == 1
    assert "hosts.toml" in done.stderr and "line 1" in done.stderr
