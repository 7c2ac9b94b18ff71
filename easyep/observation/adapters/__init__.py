"""Watchers of routed experts that do not go through transformers' experts interface."""
