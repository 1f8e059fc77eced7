"""Test images: recipes, the cache that holds what they build, and the writers they share. See README.md."""
