"""Bundles: an engine with all that running it takes, for a machine without this project."""
