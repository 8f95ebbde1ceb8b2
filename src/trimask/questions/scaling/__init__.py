"""Loss over size and length."""
