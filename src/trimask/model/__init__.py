"""The network: a bidirectional transformer over packed documents. It does not know that it is part of a
diffusion model.
"""
