"""The README's steps on a machine with the real systemd: boot, crash, restart, stop, power loss."""

import errno

import pytest

from testbed import Containerd, FaultProxy, Hang, Machine, Pagein, Pageind, Registry, build_dir, drop_caches, lazy
from testbed import wait_until
from testbed.fixtures import require
from testbed.process import run_command

MIB = 1 << 20
FILES = {"big": lazy.text_bytes(8 * MIB, 4), "second": lazy.text_bytes(2 * MIB, 5)}
BIG = lazy.sha256(FILES["big"])
SECOND = lazy.sha256(FILES["second"])
EXAMPLES = "/usr/local/share/pagein/examples"


@pytest.fixture(scope="module")
def app(images):
    """(registry, descriptor of the layer with FILES)."""
    require(Registry, Pagein, Pageind, Containerd, Machine)
    with Registry() as registry, lazy.folder("layout") as folder:
        yield registry, lazy.push_accelerated(lazy.make_layout(folder, [FILES], images("small")), registry, "app")[-1]


@pytest.fixture
def proxy(app):
    with FaultProxy(app[0]) as started:
        yield started


@pytest.fixture
def machine(proxy):
    """A machine on which Pagein is installed and set up as README.md says, both services running."""
    build = build_dir.program("pagein").parents[1]
    with Machine() as made:
        run_command(["cmake", "--install", build, "--prefix", "/usr/local"], timeout=120,
                    env={"DESTDIR": str(made.file("/"))})
        example = made.file(f"{EXAMPLES}/pageind.toml").read_text()
        trusted = f'repositories = ["{proxy.address}/*"]'
        config = example.replace("repositories = []", trusted, 1).replace("background = true", "background = false", 1)
        assert config.count(trusted) == 1
        made.write("/etc/pagein/pageind.toml", config)
        made.write("/etc/containerd/config.toml",
                   "version = 2\n" + made.file(f"{EXAMPLES}/config-1.6.toml").read_text())
        made.boot()
        made.run("systemctl", "enable", "--now", "pageind")
        made.run("systemctl", "enable", "--now", "containerd")
        yield made


def pull_and_start(machine, reference):
    machine.run("pagein", "pull", reference)
    return start(machine, reference)


def start(machine, reference):
    machine.run("ctr", "run", "--detach", "--snapshotter", "pagein", reference, "app", "/bin/sleep", "1000")
    task = machine.run("ctr", "tasks", "list").stdout.splitlines()[1].split()
    return f"/proc/{task[1]}/root"  # pids are those of the machine's namespace


def machine_pids_root(machine, root):
    """The same folder by the host's pids."""
    for line in run_command(["pgrep", "-f", "^/bin/sleep 1000"]).stdout.split():
        status = open(f"/proc/{line}/status", encoding="utf-8").read()
        nspid = next(row for row in status.splitlines() if row.startswith("NSpid")).split()
        if root.split("/")[2] in nspid[2:3]:
            return f"/proc/{line}/root"
    raise AssertionError(f"no process for {root}")


def test_enabled_and_started_it_is_active_and_logs(machine):
    shown = machine.properties("pageind", "ActiveState", "SubState", "NRestarts", "Result")
    assert shown == {"ActiveState": "active", "SubState": "running", "NRestarts": "0", "Result": "success"}
    assert machine.run("pagein", "status").returncode == 0
    assert any("ready" in entry.get("MESSAGE", "") for entry in machine.journal_entries("pageind"))
    assert machine.run("systemctl", "is-enabled", "pageind").stdout.strip() == "enabled"


@pytest.mark.parametrize("how", ["kill -9", "restart"])
def test_containers_keep_running_and_reads_go_on(app, proxy, machine, how):
    root = machine_pids_root(machine, pull_and_start(machine, proxy.ref("app", lazy.ACCELERATED)))
    assert lazy.read(root + "/second", 0, 4096) == lazy.sha256(FILES["second"][:4096])
    before = machine.properties("pageind", "MainPID", "NFileDescriptorStore")
    assert int(before["NFileDescriptorStore"]) >= 1
    hang = proxy.add(Hang(), kind="blob", digest=app[1]["digest"])
    with lazy.Reader(root + "/big") as reader:
        wait_until(lambda: hang.hits > 0, 10, "the read reaches the registry")
        if how == "kill -9":
            machine.run("kill", "-9", before["MainPID"])
        else:
            machine.run("systemctl", "restart", "pageind")
        proxy.clear()
        assert reader.result(60) == BIG
    wait_until(lambda: machine.properties("pageind", "ActiveState")["ActiveState"] == "active", 20, "it is active")
    after = machine.properties("pageind", "MainPID", "NRestarts")
    assert after["MainPID"] != before["MainPID"]
    assert after["NRestarts"] == ("1" if how == "kill -9" else "0")
    drop_caches()
    words = machine.run("ctr", "tasks", "exec", "--exec-id", "x", "app", "/bin/sha256sum", "/second").stdout.split()
    assert words[0] == SECOND


def test_a_stop_is_an_error_to_readers_unless_systemd_keeps_descriptors(app, proxy, machine):
    """FileDescriptorStorePreserve= is there since systemd 254. Either way the next start serves new containers."""
    reference = proxy.ref("app", lazy.ACCELERATED)
    root = machine_pids_root(machine, pull_and_start(machine, reference))
    version = int(machine.run("systemctl", "--version").stdout.split()[1])
    hang = proxy.add(Hang(), kind="blob", digest=app[1]["digest"])
    with lazy.Reader(root + "/big") as reader:
        wait_until(lambda: hang.hits > 0, 10, "the read reaches the registry")
        machine.run("systemctl", "stop", "pageind")
        proxy.clear()
        machine.run("systemctl", "start", "pageind")
        assert reader.result(60) in ([BIG] if version >= 254 else [errno.EIO, errno.ENOTCONN, errno.ECONNABORTED])
    wait_until(lambda: machine.run("ctr", "snapshots", "--snapshotter", "pagein", "list", check=False).returncode == 0,
               30, "containerd reaches pageind")
    words = machine.run("ctr", "run", "--rm", "--snapshotter", "pagein", reference, "again", "/bin/sha256sum",
                        "/big").stdout.split()
    assert words[0] == BIG


def test_after_a_power_loss_mounts_are_there_before_containerd(proxy, machine):
    reference = proxy.ref("app", lazy.ACCELERATED)
    pull_and_start(machine, reference)
    machine.power_off()
    machine.boot()
    wait_until(lambda: machine.run("systemctl", "is-active", "containerd", check=False).returncode == 0, 30,
               "containerd is back")
    stamps = [int(machine.properties(unit, "ActiveEnterTimestampMonotonic")["ActiveEnterTimestampMonotonic"])
              for unit in ("pageind", "containerd")]
    assert stamps[0] <= stamps[1]
    assert "erofs" in machine.run("cat", "/proc/mounts").stdout
    machine.run("ctr", "containers", "delete", "app", check=False)
    words = machine.run("ctr", "run", "--rm", "--snapshotter", "pagein", reference, "again", "/bin/sha256sum",
                        "/big").stdout.split()
    assert words[0] == BIG


def test_a_broken_configuration_is_retried_until_it_is_mended(proxy, machine):
    """And the descriptors of mounted images stay, so that containers wait instead of failing."""
    root = machine_pids_root(machine, pull_and_start(machine, proxy.ref("app", lazy.ACCELERATED)))
    path = "/etc/pagein/pageind.toml"
    good = machine.run("cat", path).stdout
    machine.run("sh", "-c", f"echo nonsense = 1 >> {path}")
    machine.run("systemctl", "restart", "pageind", check=False)
    with lazy.Reader(root + "/big") as reader:
        wait_until(lambda: int(machine.properties("pageind", "NRestarts")["NRestarts"]) >= 2, 20, "it is tried again")
        assert "nonsense" in machine.journal("pageind")
        assert reader.running()
        machine.run("sh", "-c", 'printf %s "$1" > ' + path, "sh", good)
        assert reader.result(60) == BIG
