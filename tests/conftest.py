"""What counts for every test."""

from hypothesis import settings

# How long an example takes says how busy the machine is: speed is for bench/.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")
