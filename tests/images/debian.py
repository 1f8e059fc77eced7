"""Gets things from Debian through the machine's own apt configuration: single packages, and base root filesystems."""

import os
import pathlib
import re
import shutil
import subprocess

SUITE_FALLBACK = "bookworm"


class BuildError(Exception):
    """An image could not be built; the message says which command failed and how."""


def run(argv, cwd=None, env=None, timeout=900):
    """Runs a command quietly; BuildError with the end of its output if it fails. Returns standard output."""
    done = subprocess.run([str(word) for word in argv], cwd=cwd, env=env, timeout=timeout, stdin=subprocess.DEVNULL,
                          capture_output=True, encoding="utf-8", errors="replace")
    if done.returncode != 0:
        shown = " ".join(map(str, argv))
        raise BuildError(f"{shown} ended with {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout


def suite():
    """This machine's Debian code name."""
    match = re.search(r"^VERSION_CODENAME=(\w+)", pathlib.Path("/etc/os-release").read_text(), re.M)
    return match[1] if match else SUITE_FALLBACK


def mirror():
    """The address that apt uses for the main component of this suite."""
    targets = run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)",
                   "Created-By: Packages"])
    for line in targets.splitlines():
        address, release, component = line.split()
        if release == suite() and component == "main":
            return address
    raise BuildError(f"apt has no source for {suite()} main; add one, then run `apt-get update`")


def unpack_package(name, folder):
    """Downloads one package and unpacks its files into folder."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    run(["apt-get", "download", "-q", name], cwd=folder)
    packages = list(folder.glob("*.deb"))
    run(["dpkg-deb", "-x", packages[0], folder])
    packages[0].unlink()


def proxy_environment():
    """The environment for programs that do not read apt's configuration, with apt's proxy if it has one."""
    env = dict(os.environ, DEBIAN_FRONTEND="noninteractive", LC_ALL="C")
    for scheme in ("http", "https"):
        value = run(["apt-config", "shell", "proxy", f"Acquire::{scheme}::Proxy"])
        match = re.search(r"proxy='([^']+)'", value)
        if match and match[1] != "DIRECT":
            env[f"{scheme}_proxy"] = match[1]
    return env


def bootstrap(rootfs):
    """A minimal Debian in rootfs, ready for chroot_apt()."""
    run(["debootstrap", "--variant=minbase", suite(), rootfs, mirror()], env=proxy_environment())
    for junk in (rootfs / "var/cache/apt/archives").glob("*.deb"):
        junk.unlink()


def chroot_run(rootfs, argv, env=None, timeout=900):
    """Runs a command in rootfs, without its own /proc or /dev beyond what the package tools need."""
    return run(["chroot", rootfs, *argv], env=env or proxy_environment(), timeout=timeout)


def chroot_apt_install(rootfs, packages):
    """Installs packages in rootfs by its own apt, and leaves neither lists nor archives nor our mirror behind."""
    sources = rootfs / "etc/apt/sources.list"
    kept = sources.read_bytes() if sources.exists() else b""
    resolv = rootfs / "etc/resolv.conf"
    sources.write_text(f"deb [trusted=yes] {mirror()} {suite()} main\n")
    shutil.copy("/etc/resolv.conf", resolv)
    try:
        chroot_run(rootfs, ["apt-get", "update", "-q"])
        chroot_run(rootfs, ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages])
    finally:
        sources.write_bytes(kept)
        resolv.write_text("")
        remove_apt_state(rootfs)


def remove_apt_state(rootfs):
    """Removes downloaded lists, archives and logs, and the sources, which name this machine's mirror."""
    for folder in ("var/lib/apt/lists", "var/cache/apt", "var/log"):
        for entry in (rootfs / folder).iterdir() if (rootfs / folder).is_dir() else []:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    (rootfs / "etc/apt/sources.list").write_text("")
