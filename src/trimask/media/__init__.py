"""Raw pictures and recordings, as they are found: to pixels and samples, or a word why not."""
