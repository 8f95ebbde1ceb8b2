"""Noise schedules and weights of the loss."""
