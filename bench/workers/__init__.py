"""Processes that measure."""
