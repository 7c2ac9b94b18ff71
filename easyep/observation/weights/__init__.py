"""Tensors of a checkpoint, read from their byte ranges and dequantised."""
