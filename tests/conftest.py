"""What holds for every test: a busy machine is no failure."""

import signal

from hypothesis import HealthCheck, settings

# A shell starts what is to run in the background deaf to Ctrl-C, and so would be every process that
# a test starts from there.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
# Where CI is set, hypothesis has loaded its own profile: as patient, and the same every time.
if settings.get_current_profile_name() == "default":
    settings.load_profile("patient")
