"""What benchmarks/projector.py compares: the cases, the projectors, and how time, memory and errors are measured."""
