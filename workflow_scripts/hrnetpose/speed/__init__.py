"""Timing, and the machine that is timed."""
