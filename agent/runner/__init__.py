"""The runner: the process that executes models and answers inference requests."""
