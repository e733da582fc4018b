"""Benchmarks: modules with a `main()` that measures and prints. `make bench` runs them all."""
