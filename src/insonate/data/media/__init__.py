"""Package data/media."""
