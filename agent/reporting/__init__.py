"""What the device says of itself to the broker: status, inventory, telemetry, events."""
