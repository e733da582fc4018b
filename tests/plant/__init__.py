"""A device that closes the loop: what the governor decides changes what it measures next.

Pure and seeded: seconds are numbers, nothing waits. A `pictures.Picture` says what a device is, a
`scenes.Scene` what others do on it and who asks for answers, a `policies.Policy` what it keeps in
memory; `loop.live` lets them meet.
"""
