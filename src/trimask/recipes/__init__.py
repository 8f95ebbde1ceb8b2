"""Recipes: named configurations of runs, and the catalogue that resolves a name."""
