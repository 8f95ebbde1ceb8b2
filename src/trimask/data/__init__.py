"""Data: sources, preparation, mixtures and loading. Nothing here masks or touches an accelerator."""
