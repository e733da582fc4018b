"""What holds for every test: a busy machine is no failure."""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "patient", settings(), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
# Where CI is set, hypothesis has loaded its own profile: as patient, and the same every time.
if settings.get_current_profile_name() == "default":
    settings.load_profile("patient")
