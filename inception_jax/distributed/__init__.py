"""Devices and processes: the mesh, the cluster, and what several processes of a run do together."""
