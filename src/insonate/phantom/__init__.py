"""Package phantom."""
