"""Benchmark sets by name: fetched as packages, checked, and laid out as a folder that `prepare` reads."""
