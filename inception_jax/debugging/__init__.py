"""Tools to find a fault: comparing two runs, replaying a step, inspecting data."""
