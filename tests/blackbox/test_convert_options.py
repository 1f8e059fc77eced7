"""Options of convert that say where the image goes, how often it is tried, and where the summary goes."""

import json

import pytest

from images import oci_layout
from testbed import lazy
from testbed.fixtures import require
from testbed.pagein import Pagein


@pytest.fixture
def pagein():
    require(Pagein)
    return Pagein()


@pytest.fixture
def layout(tmp_path):
    return lazy.make_layout(tmp_path / "layout", [{"a": lazy.text_bytes(100_000, 1)}])


def tags(layout):
    entries = json.loads((layout / "index.json").read_text())["manifests"]
    return {entry.get("annotations", {}).get("org.opencontainers.image.ref.name") for entry in entries}


def test_a_suffix_of_ones_own(pagein, layout):
    pagein.run("convert", "--target-suffix", "-fast", f"oci:{layout}:latest")
    assert "latest-fast" in tags(layout)
    pagein.run("convert", "--mode", "full", "--target-suffix", ".full", f"oci:{layout}:latest")
    assert {"latest.full", "latest_containerd.full"} <= tags(layout)


@pytest.mark.parametrize("suffix", ["", "/x", "a b"])
def test_a_suffix_that_no_tag_can_have(pagein, layout, suffix):
    done = pagein.run("convert", "--target-suffix", suffix, f"oci:{layout}:latest", check=False)
    assert done.returncode == 2 and "part of a tag" in done.stderr


def test_the_summary_goes_to_a_file_too(pagein, layout, tmp_path):
    target = tmp_path / "summary.json"
    printed = pagein.text("convert", "--output-json", target, f"oci:{layout}:latest")
    assert "latest_accelerated" in printed
    assert json.loads(target.read_text())["digest"] in printed
    done = pagein.run("convert", "--output-json", tmp_path / "none" / "file", f"oci:{layout}:latest", check=False)
    assert done.returncode == 1 and "is published" in done.stderr


def test_what_another_try_cannot_help_is_not_tried_again(pagein, layout):
    manifest, paths = oci_layout.load_manifest(layout, "latest")
    paths[0].write_bytes(b"damaged")
    done = pagein.run("convert", "--no-cache", "--retry", "3", f"oci:{layout}:latest", check=False, timeout=60)
    assert done.returncode == 1 and "trying again" not in done.stderr


def test_a_registry_that_is_away_is_tried_again(pagein, own_registry, layout):
    reference = own_registry.ref("away")
    own_registry.stop()
    done = pagein.run("convert", "--retry", "1", reference, check=False, timeout=300)
    assert done.returncode == 1 and done.stderr.count("trying again (1 of 1)") == 1


@pytest.mark.parametrize("mode", ["index", "full"])
def test_a_dry_run_writes_nothing_and_comes_near(pagein, images, tmp_path, mode):
    layout = tmp_path / "out"
    words = ["convert", "--mode", mode, "--no-cache", f"oci:{images('python')}", f"oci:{layout}:python"]
    guess = pagein.json(*words, "--dry-run")
    assert guess["dry_run"]
    assert [path for path in (layout / "blobs").rglob("*") if path.is_file()] == []
    assert "before a start" in pagein.text(*words, "--dry-run")
    done = pagein.json(*words, timeout=600)
    made = done["images"] if mode == "full" else [done]
    assert [image["destination"] for image in guess["images"]] == [image["destination"] for image in made]
    for guessed, image in zip(guess["images"], made):
        assert 0.6 < guessed["layer_bytes"] / image["layer_bytes"] < 1.6
        written = image["layer_bytes"] + image["index_bytes"]
        assert 0.6 < guessed["write_bytes"] / written < 1.6
    if mode == "index":
        again = pagein.json(*words, "--dry-run")
        assert {layer["state"] for layer in again["layers"]} == {"ready"}
        assert again["read_bytes"] == again["images"][0]["write_bytes"] == 0
