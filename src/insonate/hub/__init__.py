"""Package hub."""
