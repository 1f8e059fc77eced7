"""What a person gets who types something wrong: exit codes, and a message that says what would be right."""

import pytest

from testbed import Pagein, build_dir, lazy
from testbed.fixtures import require
from testbed.process import run_command


@pytest.fixture(autouse=True)
def built():
    require(Pagein)


def pageind(*arguments):
    if reason := build_dir.missing("pageind"):
        pytest.skip(reason)
    return run_command([build_dir.program("pageind"), *map(str, arguments)], timeout=60, check=False)


@pytest.mark.parametrize("words", [(), ("convrt", "x")])
def test_without_a_known_command_it_names_them_all(words):
    done = Pagein().run(*words, check=False)
    assert done.returncode == 2
    for command in ("convert", "pull", "mount", "why", "doctor"):
        assert command in done.stderr


@pytest.mark.parametrize("words", [("inspect",), ("inspect", "--bogus", "x"), ("pull", "a", "b")])
def test_wrong_arguments_end_with_2(words):
    assert Pagein().run(*words, check=False).returncode == 2


def test_a_failure_ends_with_1_and_names_the_place(tmp_path):
    done = Pagein().run("inspect", f"oci:{tmp_path}", check=False)
    assert done.returncode == 1
    assert str(tmp_path) in done.stderr


def test_verbose_may_follow_the_command_and_platform_takes_one_value(images):
    location = f"oci:{images('small')}:latest"
    assert Pagein().json("inspect", "-v", "--platform", "linux/amd64", location)["images"]


def test_no_daemon_is_said_to_be_missing(tmp_path):
    done = Pagein().run("status", "--socket", tmp_path / "none", check=False)
    assert done.returncode == 1
    assert "systemctl status pageind" in done.stderr


def test_the_daemon_refuses_what_it_does_not_know():
    assert pageind("--bogus").returncode == 2
    with lazy.folder("config") as folder:
        config = folder / "pageind.toml"
        config.write_text("[trust]\nrepos = []\n")
        done = pageind("--check-config", "--config", config)
        assert done.returncode == 2
        assert "line 2: trust.repos" in done.stderr
        config.write_text("")
        assert pageind("--check-config", "--config", config).stdout == f"{config} is fine\n"
        assert pageind("--check-config", "--config", folder / "none").returncode == 2
