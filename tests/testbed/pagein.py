"""Runs the built `pagein` command."""

import json

from testbed import build_dir
from testbed.process import run_command


class Pagein:
    """The CLI with fixed leading arguments, e.g. Pagein("--address", pageind.control)."""

    def __init__(self, *arguments, env=None):
        self._arguments = [str(word) for word in arguments]
        self._env = env or {}

    @staticmethod
    def missing():
        return build_dir.missing("pagein")

    def run(self, *arguments, check=True, timeout=300, stdin=None):
        """CompletedProcess with text output; TestbedError if it fails and check."""
        argv = [build_dir.program("pagein"), *self._arguments, *map(str, arguments)]
        return run_command(argv, timeout=timeout, check=check, env=self._env, stdin=stdin)

    def text(self, *arguments, **options):
        return self.run(*arguments, **options).stdout

    def json(self, *arguments, **options):
        """Runs with --json appended and parses what it prints."""
        return json.loads(self.run(*arguments, "--json", **options).stdout)
