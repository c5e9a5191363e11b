"""Training: recipes, what feeds them, the loop, and the elastic trunk."""
