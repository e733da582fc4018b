"""The tuner: which layout, how many threads and which CPUs suit a model on this device.

It runs in a process of its own (`python -m agent.tuner`), because a wrong model can kill an
interpreter, and because what is measured must not share a process with what serves.
"""
