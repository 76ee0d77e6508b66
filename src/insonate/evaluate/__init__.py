"""Package evaluate."""
