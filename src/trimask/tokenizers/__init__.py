"""Tokenizers: convert text, images and speech to codes and back."""
