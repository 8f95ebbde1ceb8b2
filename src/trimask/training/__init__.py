"""Training: a loop that runs any `Step` over batches, with metrics, atomic checkpoints and exact resume."""
