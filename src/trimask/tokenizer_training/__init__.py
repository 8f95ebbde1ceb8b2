"""Train tokenizers: configurations, losses, data and reports."""
