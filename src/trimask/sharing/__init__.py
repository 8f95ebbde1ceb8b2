"""A run as a folder for others: the model with all that it needs, and its card."""
