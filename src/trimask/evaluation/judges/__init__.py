"""Outside models that judge what ours makes. Each is named in a small frozen configuration, by a hub name or
a folder; `pinned` are the ones that come from the package index, checked before they are loaded.
"""
