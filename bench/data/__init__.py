"""Motion, cameras, a model of 2D detector error, and windows ready for a network (numpy only)."""
