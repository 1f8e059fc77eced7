"""Where credentials come from, which are tried, and that none shows up anywhere."""

import base64
import json
import time

import pytest

from testbed import Pagein, Pageind, Registry, lazy, wait_until
from testbed.fixtures import require
from testbed.token_server import TokenServer

SECRET = "s3cret-word"
USERS = {"robot": SECRET}
MIB = 1 << 20
FILES = {"big": lazy.text_bytes(8 * MIB, 5)}


@pytest.fixture(scope="module")
def storage(images):
    """A registry's storage with the accelerated image `team/app`."""
    require(Registry, Pagein, Pageind)
    with lazy.folder("storage") as folder, lazy.folder("layout") as layout:
        with Registry(storage=folder) as registry:
            lazy.push_accelerated(lazy.make_layout(layout, [FILES], images("small")), registry, "team/app")
        yield folder


@pytest.fixture
def registry(storage):
    """It wants a login."""
    with Registry(users=USERS, storage=storage) as started:
        yield started


@pytest.fixture
def home():
    with lazy.folder("home") as folder:
        yield folder


def login(user, password):
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def write_config(home, **content):
    path = home / "config.json"
    path.write_text(json.dumps(content))
    return path


def add_program(folder, name, script):
    path = folder / name
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)


def inspect(registry, home, *options, tag=lazy.ACCELERATED, check=True):
    pagein = Pagein(env={"PATH": f"{home}:/usr/bin:/bin", "DOCKER_CONFIG": str(home)})
    return pagein.run("inspect", *options, registry.ref("team/app", tag), check=check)


def test_a_credential_helper_is_asked(registry, home):
    add_program(home, "docker-credential-vault", 'read host; echo "$1 $host" >> "$0.log"\n'
                f'echo \'{{"ServerURL":"","Username":"robot","Secret":"{SECRET}"}}\'\n')
    write_config(home, credHelpers={registry.address: "vault"})
    inspect(registry, home)
    assert (home / "docker-credential-vault.log").read_text().startswith(f"get {registry.address}\n")


def test_a_helper_that_fails_is_named_and_its_words_are_not_shown(registry, home):
    add_program(home, "docker-credential-vault", f"echo {SECRET} >&2; echo {SECRET}; exit 1\n")
    write_config(home, credsStore="vault")
    done = inspect(registry, home, check=False)
    assert done.returncode == 1
    assert "docker-credential-vault" in done.stderr and "exit code 1" in done.stderr
    assert SECRET not in done.stderr


def test_several_logins_are_tried_the_longest_match_first(registry, home):
    write_config(home, auths={registry.address: login("robot", SECRET),
                              registry.address + "/team": login("robot", "old-word"),
                              registry.address + "/team/other": login("robot", "another")})
    inspect(registry, home)


def test_a_refusal_says_what_was_tried_and_no_secret(registry, home):
    path = write_config(home, auths={registry.address + "/team": login("robot", "old-word")})
    done = inspect(registry, home, check=False)
    assert done.returncode == 1
    assert f"the login for {registry.address}/team in {path}" in done.stderr
    assert "old-word" not in done.stderr and "docker login" in done.stderr
    write_config(home)
    assert "no credentials are known" in inspect(registry, home, check=False).stderr


def test_what_is_not_there_is_named(registry, home):
    write_config(home, auths={registry.address: login("robot", SECRET)})
    done = inspect(registry, home, tag="v9", check=False)
    assert done.returncode == 1
    assert f"{registry.address}/team/app:v9: the registry has no such image or tag" in done.stderr


def test_kubelet_plugins(registry, home):
    add_program(home, "cloud", f'cat >> "$0.log"\necho \'{{"kind":"CredentialProviderResponse",'
                '"apiVersion":"credentialprovider.kubelet.k8s.io/v1","cacheKeyType":"Registry","cacheDuration":"1h",'
                f'"auth":{{"{registry.address}":{{"username":"robot","password":"{SECRET}"}}}}}}\'\n')
    (home / "plugins.yaml").write_text(f"""
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
  - name: cloud
    apiVersion: credentialprovider.kubelet.k8s.io/v1
    matchImages: ["{registry.address}"]
    defaultCacheDuration: "12h"
""")
    inspect(registry, home, "--credential-provider-config", home / "plugins.yaml",
            "--credential-provider-bin-dir", home)
    request = json.loads((home / "cloud.log").read_text())
    assert request["kind"] == "CredentialProviderRequest"
    assert request["image"] == registry.address + "/team/app"

    (home / "cloud.log").unlink()
    config = node_config(registry)
    config["registry"] = {"credential_provider_config": str(home / "plugins.yaml"),
                          "credential_provider_bin_dir": str(home)}
    with Pageind(config) as pageind:
        big = lazy.mount(pageind, registry.ref("team/app", lazy.ACCELERATED)) / "big"
        assert lazy.read(big) == lazy.sha256(FILES["big"])
        assert (home / "cloud.log").read_text().count("CredentialProviderRequest") == 1, "kept for its hour"
        assert SECRET not in pageind.log_text()


def node_config(registry, **fetch):
    return {"log": {"level": "debug"}, "fetch": {"background": False, **fetch},
            "trust": {"repositories": [registry.address + "/*"]}}


def test_secrets_handed_over_through_the_control_socket(registry, home):
    with Pageind(node_config(registry), env={"DOCKER_CONFIG": str(home)}) as pageind:
        reference = registry.ref("team/app", lazy.ACCELERATED)
        refused = lazy.mount(pageind, reference, check=False)
        assert refused.returncode != 0 and "no credentials are known" in refused.stderr

        secret = json.dumps({"auths": {registry.address: login("robot", SECRET)}})
        assert pageind.call("PUT", "/v1/credentials", {"name": "ns/pull", "docker_config": secret})[0] == 200
        assert json.loads(pageind.get("/v1/credentials")) == {"credentials": ["ns/pull"]}
        big = lazy.mount(pageind, reference) / "big"
        assert lazy.read(big) == lazy.sha256(FILES["big"])

        assert pageind.call("POST", "/v1/credentials/remove", {"name": "ns/pull"})[0] == 200
        assert pageind.call("POST", "/v1/credentials/remove", {"name": "ns/pull"})[0] == 404
        status, answer = pageind.call("PUT", "/v1/credentials", {"name": "x", "docker_config": "{" + SECRET})
        assert status == 400 and SECRET not in answer
        assert json.loads(pageind.get("/v1/credentials")) == {"credentials": []}
        assert SECRET not in pageind.log_text()
        assert base64.b64encode(f"robot:{SECRET}".encode()).decode() not in pageind.log_text()
        stored = [path for path in pageind.folder.rglob("*") if path.is_file() and "mnt" not in path.parts
                  and SECRET.encode() in path.read_bytes()[:MIB]]
        assert not stored


@pytest.mark.parametrize("say_lifetime", [True, False])
def test_lazy_reads_outlive_many_tokens(storage, home, say_lifetime):
    """Tokens of 2 s; those that do not say so are taken for longer and are refused in mid-life."""
    with TokenServer(users=USERS, lifetime=2) as tokens, Registry(token=tokens, storage=storage) as registry:
        tokens.say_lifetime = say_lifetime
        write_config(home, auths={registry.address: login("robot", SECRET)})
        with Pageind(node_config(registry), env={"DOCKER_CONFIG": str(home)}) as pageind:
            big = lazy.mount(pageind, registry.ref("team/app", lazy.ACCELERATED)) / "big"
            for number in range(3):
                offset = number * 2 * MIB
                assert lazy.read(big, offset, 4096) == lazy.sha256(FILES["big"][offset:offset + 4096])
                granted, at = tokens.grant_count(), time.monotonic()
                wait_until(lambda: time.monotonic() - at > 2.2, 10, "the token has expired")
                assert tokens.grant_count() == granted
            assert lazy.read(big) == lazy.sha256(FILES["big"])
            assert tokens.grant_count() >= 3
            assert SECRET not in pageind.log_text()
