"""Training tokenizers: their configurations, losses, data and reports."""
