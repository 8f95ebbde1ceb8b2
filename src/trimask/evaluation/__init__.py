"""Measures of trained models and tokenizers, and the judges that some of them need."""
