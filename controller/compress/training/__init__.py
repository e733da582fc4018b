"""What needs training: channels cut out of a network, and small networks taught by a large one.

The person brings a Python module (`protocol`) with the trained torch network and its data; what
comes back are `.tflite` files and what every step cost. Needs the extra `train`: torch,
`torch-pruning`, `litert-torch` and `ai-edge-quantizer`; only functions import them (and `fake`,
`fold` and `layout`, which import torch), so that the rest of the toolkit works without.
"""
