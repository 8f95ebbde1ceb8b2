"""The table of a run: what it generates, measured and judged beside its floors and ceilings."""
