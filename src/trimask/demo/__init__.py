"""The demo: a small model trained live, and what the one that ships can do."""
