"""Run the model on the demonstrations and record what its routed experts did."""
