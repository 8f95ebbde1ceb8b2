"""The demo: generate with the shipped model, and train a small one."""
