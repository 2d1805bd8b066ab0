"""The version, which the workflow prints and each release has in CHANGELOG.md."""

VERSION = "0.1.0"
