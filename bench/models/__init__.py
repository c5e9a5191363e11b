"""From a case to its model, weights and inputs."""
