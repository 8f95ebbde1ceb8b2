"""Convert raw data into token shards: decide splits, decode, tokenize part by part, and write a manifest."""
