"""Turn a recipe into a run, and load a run's model."""
