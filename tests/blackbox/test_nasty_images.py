"""The nasty images are valid: containerd's ordinary pull takes each, and reads out what the recipe put in."""

import gzip
import hashlib
import json
import os
import stat
import subprocess

import pytest

from images import oci_layout, recipe_nasty
from images.nasty import encodings
from images.nasty.oddity import pattern
from testbed import Containerd, Registry, compare_trees, push_image
from testbed.fixtures import require

ODDITIES = [oddity.name for oddity in recipe_nasty.oddities()]
IMAGES = ODDITIES + ["latest", "docker", "hundred"]


@pytest.fixture(scope="module")
def nasty(images):
    return images("nasty")


@pytest.fixture(scope="module")
def parts(nasty):
    require(Registry, Containerd)
    with Registry() as registry, Containerd() as containerd:
        yield registry, containerd


def pulled(parts, nasty, name):
    registry, containerd = parts
    if not containerd.image_target(registry.ref("nasty", name)):
        push_image(nasty, name, registry, "nasty", name)
        containerd.pull(registry.ref("nasty", name))
    return registry.ref("nasty", name)


@pytest.mark.parametrize("name", IMAGES)
def test_plain_pull_accepts_and_runs(parts, nasty, name):
    ref = pulled(parts, nasty, name)
    assert parts[1].run(ref, ["/bin/true"]) == ""


@pytest.mark.parametrize("name", encodings.ACCEPTED)
def test_every_encoding_gives_the_same_tree(parts, nasty, name):
    refs = [pulled(parts, nasty, f"encoding-{encoding}") for encoding in ("tar", name)]
    with parts[1].mounted_image(refs[0]) as left, parts[1].mounted_image(refs[1]) as right:
        assert (left / "mixed/noise").stat().st_size > 0
        assert compare_trees(left, right) == []


def test_oci_and_docker_images_hold_the_same_tree(parts, nasty):
    refs = [pulled(parts, nasty, name) for name in ("latest", "docker")]
    with parts[1].mounted_image(refs[0]) as left, parts[1].mounted_image(refs[1]) as right:
        assert compare_trees(left, right) == []


def test_what_plain_pull_reads_is_what_was_written(parts, nasty):
    with parts[1].mounted_image(pulled(parts, nasty, "latest")) as top:
        check_names(top)
        check_metadata(top)
        check_layers(top)
        check_sparse(top)


def check_names(top):
    def read(path):
        with open(os.path.join(os.fsencode(top), path), "rb") as source:
            return source.read()
    assert read(b"name-bytes/new\nline") == b"new\nline"
    assert read(b"invalid-utf8/bad\xff\xfe") == b"bad\xff\xfe"
    assert read(b"component-255/" + b"d" * 255 + b"/" + b"f" * 255) == b"1"
    assert read(b"ustar-prefix/" + b"p" * 71 + b"/" + b"q" * 70 + b"/" + b"n" * 100) == b"full"
    assert read(b"gnu-long/" + b"a" * 90 + b"/" + b"b" * 200 + b"/link") == b"long"
    assert read(b"pax-long/hardlink") == b"deep"
    assert read(b"pax-size/file") == pattern(5000)
    assert read(b"duplicates/file") == b"second one"
    assert read(b"absolute/up") == b"3"
    assert read(b"no-end/7") == b"x" * 7
    assert sorted(os.listdir(top / "duplicates/becomes-dir")) == ["inner"]
    assert stat.S_ISREG(os.lstat(top / "duplicates/becomes-file").st_mode)


def check_metadata(top):
    assert os.lstat(top / "hardlinks/a/file").st_nlink == 54
    assert os.lstat(top / "hardlinks/to-symlink").st_ino == os.lstat(top / "hardlinks/symlink").st_ino
    assert os.lstat(top / "special-files/large").st_rdev == os.makedev(4095, 0xFFFFF)
    assert stat.S_IMODE(os.lstat(top / "modes/7777").st_mode) == 0o7777
    assert os.lstat(top / "owners/pax").st_uid == 4000000000
    assert os.lstat(top / "base256/owner").st_gid == 2500000000
    assert os.lstat(top / "times/1").st_mtime_ns == 999999999
    assert os.lstat(top / "times/5").st_mtime_ns == 4294967296250000000
    assert os.getxattr(top / "xattrs/binary", "user.binary") == bytes(range(256))
    assert len(os.getxattr(top / "xattrs/capability", "security.capability")) == 20
    assert (top / "sizes/4097").read_bytes() == pattern(4097, 4097)


def check_layers(top):
    assert sorted(os.listdir(top / "whiteouts")) == ["b", "dir"]
    assert sorted(os.listdir(top / "whiteouts/dir")) == ["a", "b"]
    assert sorted(os.listdir(top / "whiteout-then-new/b")) == ["inner"]
    assert os.readlink(top / "whiteout-then-new/dir/a") == "b"
    assert sorted(os.listdir(top / "opaque/dir")) == ["new"]
    assert sorted(os.listdir(top / "opaque/after")) == ["new"]
    assert sorted(os.listdir(top / "opaque-nested/dir")) == ["sub"]
    assert sorted(os.listdir(top / "removed-and-back/dir")) == ["d"]
    assert (top / "type-changes/x").read_text() == "a file again"
    assert sorted(os.listdir(top / "type-changes/y")) == ["new"]
    assert stat.S_IMODE(os.lstat(top / "directory-changes/dir").st_mode) == 0o1770
    assert sorted(os.listdir(top / "directory-changes/dir")) == ["a", "b", "sub"]
    assert (top / "link-groups/two").read_text() == "old"


def check_sparse(top):
    digests = set()
    for folder in ("sparse-pax-00", "sparse-pax-01", "sparse-pax-10"):
        data = (top / folder / "some").read_bytes()
        assert len(data) == (24 << 20) + 123
        assert data[5 << 20:(5 << 20) + 4096] == pattern(4096, 1)
        assert data[512:5 << 20].count(0) == (5 << 20) - 512
        digests.add(hashlib.sha256(data + (top / folder / "hundred").read_bytes()).hexdigest())
    assert len(digests) == 1


def test_docker_archive_is_readable(nasty, tmp_path):
    archive = nasty / "nasty.docker.tar"
    done = subprocess.run(["skopeo", "inspect", "--config", f"docker-archive:{archive}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["rootfs"]["diff_ids"]) > 60


def test_digests_of_layers_are_true(nasty):
    manifest, paths = oci_layout.load_manifest(nasty, "encoding-gzip-members")
    config = json.loads(oci_layout.blob_path(nasty, manifest["config"]["digest"]).read_text())
    for path, diff_id in zip(paths, config["rootfs"]["diff_ids"]):
        assert "sha256:" + hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest() == diff_id
