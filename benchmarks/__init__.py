"""``make bench``: what the app costs, beside what others cost. See README.md in this folder."""
