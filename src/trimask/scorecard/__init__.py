"""The scorecard of a run: its samples and likelihoods, scored beside floors and ceilings."""
