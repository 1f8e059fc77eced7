"""pytest fixtures that black-box tests share, and the sweep that fails a run which leaves something behind."""

import pytest

from testbed import sweep
from testbed.containerd import Containerd
from testbed.registry import Registry
from testbed.skopeo import copy_layout

_LEFT = pytest.StashKey()


def require(*parts):
    """Skips the test unless every part (a class with missing()) can run here."""
    for part in parts:
        reason = part.missing()
        if reason:
            pytest.skip(reason)


@pytest.fixture(scope="session")
def images():
    """Name -> OCI layout folder of a test image, built at first use and cached: images("small")."""
    from images import catalogue

    def layout(name):
        reason = catalogue.missing(name)
        if reason:
            pytest.skip(reason)
        return catalogue.layout(name)
    return layout


@pytest.fixture(scope="session")
def registry(images):
    """A registry of the whole session with the `small` image at small:latest. Tests must not stop or corrupt it."""
    require(Registry)
    with Registry() as started:
        copy_layout(images("small"), "latest", started, "small")
        yield started


@pytest.fixture
def own_registry():
    """A registry of this test alone, empty."""
    require(Registry)
    with Registry() as started:
        yield started


@pytest.fixture
def containerd():
    """A containerd of this test alone."""
    require(Containerd)
    with Containerd() as started:
        yield started


def pytest_sessionstart(session):
    sweep.clean_stale_runs()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    left = sweep.leftovers()
    session.config.stash[_LEFT] = left
    if left:
        sweep.clean()
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    for line in config.stash.get(_LEFT, []):
        terminalreporter.write_line(f"LEFT BEHIND: {line}", red=True)
