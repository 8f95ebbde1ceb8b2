"""The study that tunes a trained model's samplers: exact likelihood first, then judged samples."""
