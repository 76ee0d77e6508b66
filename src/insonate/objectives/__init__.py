"""Package objectives."""
