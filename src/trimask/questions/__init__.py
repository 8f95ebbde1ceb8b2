"""The studies of training that ship: each asks one question about the design space."""
