"""trimask: tri-modal masked diffusion models, pretrained from scratch."""
