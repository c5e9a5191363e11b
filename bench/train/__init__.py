"""Training: recipes, batches, the loop, and the elastic supernet (the trunk)."""
