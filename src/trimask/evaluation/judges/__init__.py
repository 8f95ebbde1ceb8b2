"""Outside models that judge samples.

Each has a small frozen configuration with a hub name or a folder. Those in `pinned` come from the package
index, and their hashes are checked before they are loaded.
"""
