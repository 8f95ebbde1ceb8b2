"""A mask with its complement, beside single masks."""
