"""How a bundle's models are run: the same rules where a cascade is calibrated and where it serves.

Needs numpy, and an interpreter where a model is opened; the agent's supervisor never imports this.
"""
