"""What can go wrong in the toolkit; every text reads "cannot X: why"."""

from controller.errors import BuildError


class CompressError(BuildError):
    """A model or its data does not allow what was asked for; nothing was written."""
