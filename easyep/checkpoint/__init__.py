"""Checkpoints on disk: read, explained, rewritten with fewer experts, and proved right."""
