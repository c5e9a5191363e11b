"""Generated motion and the modelled detector."""
