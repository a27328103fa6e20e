"""What the app costs, beside its peers: ``make bench``."""
