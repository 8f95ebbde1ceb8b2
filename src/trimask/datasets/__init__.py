"""Fetch benchmark sets by name: download packages, check them, and write a folder for `trimask prepare`."""
