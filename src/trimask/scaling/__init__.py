"""Studies over many runs: what varies, what came out, and the laws that are fitted to it."""
