"""The shares of modalities."""
