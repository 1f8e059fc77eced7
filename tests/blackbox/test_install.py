"""What `make install` puts on a machine is complete and what the real systemd, containerd and man accept."""

import re
import shutil

import pytest

from testbed import Pagein, build_dir, lazy
from testbed.fixtures import require
from testbed.process import run_command

PREFIX = "/opt/pagein"


@pytest.fixture(scope="module")
def installed():
    """The folder that stands for PREFIX."""
    require(Pagein)
    build = build_dir.program("pagein").parents[1]
    if not shutil.which("cmake") or not (build / "cmake_install.cmake").exists():
        pytest.skip(f"cannot install from {build}: no CMake, or not a build folder of its")
    with lazy.folder("install") as folder:
        run_command(["cmake", "--install", build, "--prefix", PREFIX], timeout=120, env={"DESTDIR": str(folder)})
        yield folder / PREFIX.lstrip("/")


def test_the_unit_starts_the_installed_daemon_and_systemd_takes_it(installed):
    unit = installed / "lib/systemd/system/pageind.service"
    text = unit.read_text()
    assert re.search(rf"^ExecStart={PREFIX}/bin/pageind ", text, re.MULTILINE)
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    there = installed / "pageind.service"
    there.write_text(text.replace(f"={PREFIX}/", f"={installed}/").replace("Documentation=", "#"))
    done = run_command(["systemd-analyze", "verify", "--man=no", there], timeout=60, check=False)
    # systemd before 254.
    known = [line for line in done.stderr.splitlines() if "'FileDescriptorStorePreserve'" not in line]
    assert (done.returncode, known) == (0, [])


def test_the_daemon_takes_the_example_of_its_configuration(installed):
    example = installed / "share/pagein/examples/pageind.toml"
    run_command([installed / "bin/pageind", "--check-config", "--config", example], timeout=60)


def test_containerd_takes_the_lines_for_it(installed):
    if not shutil.which("containerd"):
        pytest.skip("containerd is not installed")
    config = installed / "config.toml"
    lines = (installed / "share/pagein/examples/config-1.6.toml").read_text()
    # As Debian's package has it.
    config.write_text('version = 2\n[plugins]\n  [plugins."io.containerd.grpc.v1.cri"]\n'
                      '    [plugins."io.containerd.grpc.v1.cri".cni]\n      bin_dir = "/usr/lib/cni"\n' + lines)
    dump = run_command(["containerd", "--config", config, "config", "dump"], timeout=60).stdout
    assert '[proxy_plugins.pagein]' in dump
    assert 'snapshotter = "pagein"' in dump
    assert 'disable_snapshot_annotations = false' in dump


@pytest.mark.parametrize("page", ["man1/pagein.1", "man1/pagein-convert.1", "man5/pageind.toml.5", "man8/pageind.8"])
def test_man_pages_have_no_warnings(installed, page):
    path = installed / "share/man" / page
    assert path.exists()
    if not shutil.which("man"):
        pytest.skip("man is not installed")
    done = run_command(["man", "--warnings", "-E", "UTF-8", "-l", path], timeout=60, check=False,
                       env={"LC_ALL": "C.UTF-8"})
    assert (done.returncode, done.stderr) == (0, "")
