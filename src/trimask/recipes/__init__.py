"""Named, complete runs, and what turns a name into a run or a model."""
