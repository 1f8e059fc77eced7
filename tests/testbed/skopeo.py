"""Pushes images into registries with skopeo, with no configuration or credentials of the machine's user."""

import json

from testbed import run
from testbed.process import run_command


def copy_layout(layout, name, registry, repository, tag="latest", user=None, whole_index=False):
    """Copies image `name` of an OCI layout to registry/repository:tag, digests kept; returns the manifest's digest.

    user: "name:password". whole_index: every platform of an index, not only this machine's.
    """
    digest_file = run.new_dir("skopeo") / "digest"
    argv = ["skopeo", "--insecure-policy", "copy", "--preserve-digests", "--digestfile", digest_file,
            "--dest-tls-verify=false", "--dest-no-creds" if user is None else f"--dest-creds={user}"]
    if whole_index:
        argv.append("--all")
    argv += [f"oci:{layout}:{name}", f"docker://{registry.ref(repository, tag)}"]
    try:
        run_command(argv, timeout=600)
        return digest_file.read_text().strip()
    finally:
        run.remove_dir(digest_file.parent)


def inspect_raw(ref, user=None):
    """The manifest or index behind a reference, as an object."""
    argv = ["skopeo", "inspect", "--raw", "--tls-verify=false"]
    argv += ["--no-creds"] if user is None else [f"--creds={user}"]
    return json.loads(run_command(argv + [f"docker://{ref}"]).stdout)
