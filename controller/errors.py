"""What can go wrong in the controller; every text reads "cannot X: why"."""

from protocols.errors import SluiceError


class ControllerError(SluiceError):
    """Base of the controller's own errors."""


class HomeError(ControllerError):
    """The home folder, its configuration or a key in it is missing, wrong or not safe to use."""


class FitError(ControllerError):
    """A cascade cannot run on a device, or anywhere, as it is asked for."""


class BrokerError(ControllerError):
    """The embedded broker cannot be started."""


class EnrolmentError(ControllerError):
    """A credential, a certificate or the broker's configuration cannot be made or used."""


class CatalogError(ControllerError):
    """Something is not in the catalog, or cannot be put there."""


class BuildError(CatalogError):
    """A model, samples or a gate are not such that a cascade can be built from them."""
