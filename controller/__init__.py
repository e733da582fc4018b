"""The controller: what a person or a server runs to place cascades on a fleet of devices."""
