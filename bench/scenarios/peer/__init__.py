"""This implementation beside a checkout of a published one: same weights, same input, in turn."""
