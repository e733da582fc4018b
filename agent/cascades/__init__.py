"""Which cascades should serve, which do, and the way from one to the other."""
