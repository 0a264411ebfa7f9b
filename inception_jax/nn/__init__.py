"""The networks in Flax Linen, independent of devices."""
