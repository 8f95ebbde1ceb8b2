"""From speech to pictures and back."""
