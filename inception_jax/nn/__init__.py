"""The networks in Flax Linen. Nothing here knows of devices."""
