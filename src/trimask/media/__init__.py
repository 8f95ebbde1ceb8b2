"""Decode untrusted pictures and recordings into pixels and samples, or reject them with a reason."""
