"""Makes the testbed's fixtures and its final sweep available to every test below this folder."""

pytest_plugins = ["testbed.fixtures"]
