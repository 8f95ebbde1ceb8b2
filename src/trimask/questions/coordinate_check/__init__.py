"""Activations and updates over width and depth."""
