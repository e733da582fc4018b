"""Sensors, on scripted machines."""
