"""Package recipes."""
