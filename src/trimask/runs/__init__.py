"""What makes a run of a recipe, and a model of a run."""
