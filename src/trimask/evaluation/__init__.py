"""Figures about a trained model, each with its floor or ceiling."""
