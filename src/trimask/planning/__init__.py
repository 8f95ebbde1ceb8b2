"""Compute the memory, time and traffic of a run before it starts."""
