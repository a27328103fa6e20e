"""``make containers``: build the images, run ``compose.yaml`` as it is, and break things."""
