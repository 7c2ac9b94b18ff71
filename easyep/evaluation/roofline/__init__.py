"""What throughput a model can have at most on a machine, from `config.json` and two numbers of it.

A forward pass cannot be faster than its bytes pass the memory bus, nor than its operations pass
the arithmetic units ("Roofline", Williams, Waterman and Patterson, 2009). The formulas are in
`step`, what a model moves and computes in `decoder`, its numbers in `reading`.
"""
