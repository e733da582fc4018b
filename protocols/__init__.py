"""What both sides of the wire agree on: messages, topics, bundles, schedules and envelopes."""
