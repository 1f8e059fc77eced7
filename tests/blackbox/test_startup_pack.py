"""The startup pack: what convert puts into it, that it is what it says, and that other clients do not mind it."""

import hashlib
import json
import shutil
import struct
import subprocess
import urllib.request

import pytest

from images import oci_layout
from testbed import Containerd, Registry, lazy, push_image, wait_until
from testbed.fixtures import require
from testbed.pagein import Pagein
from testbed.process import free_port
from test_lazy_images import answers

PREFIX = "io.pagein.startup."
PACK_TYPE = "application/vnd.pagein.startup.pack.v1"
TRACE_TYPE = "application/vnd.pagein.startup.trace.v1"
SPAN = 64 << 10  # --spacing 64


class Pack:
    """A pack as its document describes it, parsed here once more."""

    def __init__(self, blob, head_size):
        magic, version, layers, pieces, reserved, size = struct.unpack_from("<8sIIIIQ", blob)
        assert (magic, version, reserved, size) == (b"PGINPACK", 1, 0, head_size)
        self.layers = ["sha256:" + blob[32 + 32 * i:64 + 32 * i].hex() for i in range(layers)]
        table = 32 + 32 * layers
        self.pieces = [struct.unpack_from("<IIII", blob, table + 16 * i) for i in range(pieces)]
        assert table + 16 * pieces == head_size
        assert head_size + sum(stored for *_, stored in self.pieces) == len(blob)

    def spans(self, stored_only=False):
        return {(self.layers[layer], span) for layer, first, count, stored in self.pieces
                for span in range(first, first + count) if stored or not stored_only}


def blob_of(layout, digest):
    return oci_layout.blob_path(layout, digest)


def manifests(layout, tag):
    """(image manifest, artifact manifest) of an accelerated image of one platform in a layout."""
    index = json.loads((layout / "index.json").read_text())
    root = next(entry for entry in index["manifests"]
                if entry.get("annotations", {}).get("org.opencontainers.image.ref.name") == tag)
    children = json.loads(blob_of(layout, root["digest"]).read_text())["manifests"]
    return [json.loads(blob_of(layout, child["digest"]).read_text()) for child in children]


def pack_of(layout, tag):
    notes = manifests(layout, tag)[0].get("annotations", {})
    if PREFIX + "digest" not in notes:
        return None
    blob = blob_of(layout, notes[PREFIX + "digest"]).read_bytes()
    head = int(notes[PREFIX + "head-size"])
    assert len(blob) == int(notes[PREFIX + "size"])
    assert notes[PREFIX + "head-digest"] == "sha256:" + hashlib.sha256(blob[:head]).hexdigest()
    return Pack(blob, head)


@pytest.fixture
def pagein():
    require(Pagein)
    return Pagein()


@pytest.fixture
def layout(tmp_path):
    """Two layers of files of known places: each of one span or more."""
    return lazy.make_layout(tmp_path / "layout", [
        {"low/a": lazy.text_bytes(SPAN, 1), "low/b": lazy.text_bytes(SPAN, 2), "gone/x": lazy.text_bytes(SPAN, 3),
         "padding": lazy.text_bytes(20 * SPAN, 4), "big": lazy.text_bytes(80 * SPAN, 5)},
        {"top": lazy.text_bytes(SPAN, 6), "low/b": lazy.text_bytes(SPAN, 7), ".wh.gone": b""}])


def convert(pagein, layout, *flags, tag="fast"):
    return pagein.json("convert", "--no-cache", "--spacing", "64", *flags, f"oci:{layout}:latest", f"oci:{layout}:{tag}",
                       timeout=600)


def startup(report):
    return report["platforms"][0]["startup"]


def diff_ids(layout):
    manifest, _ = oci_layout.load_manifest(layout, "latest")
    return json.loads(blob_of(layout, manifest["config"]["digest"]).read_text())["rootfs"]["diff_ids"]


def write_list(folder, *lines):
    path = folder / "list"
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_a_list_is_taken_in_its_order(pagein, layout, tmp_path):
    listed = write_list(tmp_path, "/top", "", "/low/", "/big")
    report = startup(convert(pagein, layout, "--prefetch-list", listed))
    assert report["origins"] == ["list"] and report["unknown_paths"] == []
    pack = pack_of(layout, "fast")
    low, top = diff_ids(layout)
    assert pack.layers == [top, low], "the order of the first use"
    assert pack.pieces[0][0] == 0 and pack.pieces[0][3] > 0, "what is scattered is stored"
    assert any(layer == 1 and stored > 0 for layer, *_, stored in pack.pieces)
    assert any(layer == 1 and stored == 0 for layer, *_, stored in pack.pieces), "a long run is left to its layer"
    assert report["pieces"] == len(pack.pieces)
    artifact = manifests(layout, "fast")[1]
    assert PACK_TYPE in [blob["mediaType"] for blob in artifact["layers"]], "garbage collection keeps it"
    assert pagein.json("check", f"oci:{layout}:latest", f"oci:{layout}:fast")["startup_pieces"] == report["stored_pieces"]
    shown = pagein.json("inspect", f"oci:{layout}:fast")["images"][0]["startup_pack"]
    assert shown["pieces"] == report["pieces"] and shown["tar_bytes"] == report["tar_bytes"]
    assert shown["files"] >= 4 and "problem" not in shown
    assert "startup pack" in pagein.text("inspect", f"oci:{layout}:fast")


def test_unknown_paths_are_told_and_do_no_harm(pagein, layout, tmp_path):
    listed = write_list(tmp_path, "/none", "/top", "/gone/x", "/top/", "/none/")
    result = pagein.run("convert", "--no-cache", "--json", "--prefetch-list", listed, f"oci:{layout}:latest",
                        f"oci:{layout}:fast")
    unknown = startup(json.loads(result.stdout))["unknown_paths"]
    assert unknown == ["/none", "/gone/x", "/top/", "/none/"], "what a whiteout hides is not there"
    assert all(path in result.stderr for path in unknown)


def test_a_line_that_is_no_path_is_named(pagein, layout, tmp_path):
    listed = write_list(tmp_path, "/top", "top")
    result = pagein.run("convert", "--prefetch-list", listed, f"oci:{layout}:latest", f"oci:{layout}:fast", check=False)
    assert result.returncode == 1 and "line 2" in result.stderr


def test_a_trace_is_taken_in_its_order(pagein, layout, tmp_path):
    low, top = diff_ids(layout)
    reads = [(low, 30 * SPAN, SPAN), (top, 0, 512), (low, 0, 10), ("sha256:" + "1" * 64, 0, 1)]
    path = tmp_path / "trace"
    path.write_text(json.dumps({"version": 1, "reads": [
        {"diff_id": layer, "offset": offset, "length": length, "ms": 1} for layer, offset, length in reads]}))
    report = startup(convert(pagein, layout, "--startup-trace", path))
    assert report["origins"] == ["trace"] and report["unknown_reads"] == 1
    pack = pack_of(layout, "fast")
    assert [pack.layers[piece[0]] for piece in pack.pieces] == [low, top, low]
    both = startup(convert(pagein, layout, "--startup-trace", path, "--prefetch-list", write_list(tmp_path, "/low/b")))
    assert both["origins"] == ["trace", "list"]


def test_an_attached_trace_is_used(pagein, layout, own_registry, tmp_path):
    push_image(layout, "latest", own_registry, "traced")
    low, _ = diff_ids(layout)
    attach_trace(own_registry, "traced", [{"diff_id": low, "offset": 0, "length": SPAN, "ms": 1}])
    report = pagein.json("convert", "--no-cache", own_registry.ref("traced"))
    assert startup(report)["origins"] == ["attached trace"]
    assert pagein.json("check", own_registry.ref("traced"), report["destination"])["same"]


def attach_trace(registry, repository, reads):
    """As `pagein record --attach` does where a registry has no referrers API: listed in the fallback tag."""
    _, subject = lazy.image_manifest(registry, repository, "latest")
    trace = json.dumps({"version": 1, "reads": reads}).encode()
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": TRACE_TYPE,
                "config": put_blob(registry, repository, b"{}", "application/vnd.oci.empty.v1+json"),
                "layers": [put_blob(registry, repository, trace, TRACE_TYPE + "+json")],
                "subject": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": subject, "size": 2}}
    data = json.dumps(manifest).encode()
    entry = {"mediaType": manifest["mediaType"], "digest": oci_layout.bytes_digest(data), "size": len(data),
             "artifactType": TRACE_TYPE}
    put_manifest(registry, repository, entry["digest"], manifest["mediaType"], data)
    index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [entry]}
    put_manifest(registry, repository, subject.replace(":", "-"), index["mediaType"], json.dumps(index).encode())


def put_blob(registry, repository, data, media_type):
    digest = oci_layout.bytes_digest(data)
    start = urllib.request.Request(f"{registry.url}/v2/{repository}/blobs/uploads/", method="POST")
    with urllib.request.urlopen(start, timeout=30) as reply:
        location = reply.headers["Location"]
    put = urllib.request.Request(f"{location}&digest={digest}", data=data, method="PUT",
                                 headers={"Content-Type": "application/octet-stream"})
    urllib.request.urlopen(put, timeout=30).close()
    return {"mediaType": media_type, "digest": digest, "size": len(data)}


def put_manifest(registry, repository, tag, media_type, data):
    put = urllib.request.Request(f"{registry.url}/v2/{repository}/manifests/{tag}", data=data, method="PUT",
                                 headers={"Content-Type": media_type})
    urllib.request.urlopen(put, timeout=30).close()


@pytest.mark.parametrize("limit", ["0", "100KiB"])
def test_the_limit_counts_what_is_stored(pagein, layout, tmp_path, limit):
    listed = write_list(tmp_path, "/top", "/low/a", "/low/b", "/padding")
    free = startup(convert(pagein, layout, "--prefetch-list", listed, tag="free"))
    report = startup(convert(pagein, layout, "--prefetch-list", listed, "--pack-limit", limit))
    most = 100 << 10 if limit != "0" else 0
    assert report["stored_bytes"] <= most < free["stored_bytes"]
    assert pack_of(layout, "fast").spans() == pack_of(layout, "free").spans(), "nothing leaves the table"


def test_never_more_than_a_tenth_of_the_image(pagein, layout, tmp_path):
    report = convert(pagein, layout, "--prefetch-list", write_list(tmp_path, "/padding", "/low/", "/top"))
    assert 0 < startup(report)["stored_bytes"] <= report["base_layer_bytes"] // 10


def test_without_anything_to_go_by_there_is_none(pagein, layout):
    report = startup(convert(pagein, layout, "--no-auto-prefetch"))
    assert "digest" not in report and pack_of(layout, "fast") is None
    assert pagein.json("inspect", f"oci:{layout}:fast")["images"][0].get("startup_pack") is None


def test_the_same_command_gives_the_same_pack(pagein, layout, tmp_path):
    listed = write_list(tmp_path, "/low/", "/big")
    one = convert(pagein, layout, "--prefetch-list", listed, "-j", "1")
    two = convert(pagein, layout, "--prefetch-list", listed, "-j", "4")
    assert one["digest"] == two["digest"]


def test_full_mode_shares_one_pack_between_its_images(pagein, layout, tmp_path):
    report = convert(pagein, layout, "--mode", "full", "--prefetch-list", write_list(tmp_path, "/low/", "/big"))
    packs = {startup(image)["digest"] for image in report["images"]}
    assert len(packs) == 1
    for image in report["images"]:
        checked = pagein.json("check", f"oci:{layout}:latest", image["destination"])
        assert checked["same"] and checked["startup_packs"] == 1


@pytest.mark.parametrize("where", ["head", "frame", "end"])
def test_check_finds_a_damaged_pack(pagein, layout, tmp_path, where):
    convert(pagein, layout, "--prefetch-list", write_list(tmp_path, "/low/", "/top"))
    notes = manifests(layout, "fast")[0]["annotations"]
    path = blob_of(layout, notes[PREFIX + "digest"])
    blob = bytearray(path.read_bytes())
    at = {"head": 40, "frame": int(notes[PREFIX + "head-size"]) + 1000, "end": len(blob) - 1}[where]
    blob[at] ^= 1
    path.write_bytes(blob)
    result = pagein.run("check", f"oci:{layout}:latest", f"oci:{layout}:fast", check=False)
    assert result.returncode == 3 and "startup pack" in result.stdout


# What the entry points of test images name: a file that must be in the pack, and what is known to be read besides.
ENTRY_POINTS = {"python": ["/usr/bin/python3"], "nodeapp": ["/usr/local/bin/node", "/app/node_modules/n8n/bin/n8n"]}


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ENTRY_POINTS)
def test_the_entry_point_is_found(pagein, images, tmp_path, name):
    source = images(name)
    layout = tmp_path / "out"
    auto = pagein.json("convert", f"oci:{source}", f"oci:{layout}:auto", timeout=600)
    assert startup(auto)["origins"] == ["entry point"]
    for path in ENTRY_POINTS[name]:
        pagein.json("convert", "--prefetch-list", write_list(tmp_path, path), f"oci:{source}", f"oci:{layout}:one", timeout=600)
        wanted = pack_of(layout, "one").spans()
        # Programs without what is not loaded: sections for debuggers.
        found = wanted & pack_of(layout, "auto").spans()
        assert len(found) >= 0.6 * len(wanted) > 0, path
    shutil.rmtree(layout)


@pytest.mark.timeout(600)
def test_containerd_without_pagein_runs_it(pagein, images, own_registry, containerd):
    push_image(images("small"), "latest", own_registry, "small")
    report = pagein.json("convert", own_registry.ref("small"))
    assert startup(report)["pieces"] > 0
    assert pagein.json("check", own_registry.ref("small"), report["destination"])["same"]
    containerd.pull(report["destination"])
    port = free_port()
    container = containerd.run_detached(report["destination"], env={"PORT": port})
    wait_until(lambda: answers(f"http://127.0.0.1:{port}/index.html"), 90, "the server answers")
    containerd.kill(container)


def test_copying_tools_keep_it(pagein, layout, tmp_path):
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    convert(pagein, layout, "--prefetch-list", write_list(tmp_path, "/low/", "/top"))
    copy = tmp_path / "copy"
    subprocess.run(["skopeo", "copy", "--all", f"oci:{layout}:fast", f"oci:{copy}:fast"], check=True,
                   capture_output=True, timeout=120)
    assert pagein.json("inspect", f"oci:{copy}:fast")["images"][0]["startup_pack"]["pieces"] > 0
