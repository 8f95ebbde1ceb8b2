"""Raw signal <-> codes: text, images, speech."""
