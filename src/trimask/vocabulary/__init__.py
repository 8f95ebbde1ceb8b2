"""The one discrete token space: modalities, token ranges, codebook layouts, templates and batches."""
