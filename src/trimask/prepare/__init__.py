"""Raw data -> token shards: readers, guards, and the tokenization of one part after another."""
