"""Serve models over HTTP: requests of any kind share each step of the sampler."""
