"""Tables, plots and the markdown report, from records alone: no torch, no measuring."""
