"""Layers with every oddity that tar and gzip allow, written byte by byte."""
