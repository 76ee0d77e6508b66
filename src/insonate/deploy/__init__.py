"""Package deploy."""
