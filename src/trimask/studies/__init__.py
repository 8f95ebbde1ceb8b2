"""Studies: questions that many small runs answer. `trimask study` runs them."""
