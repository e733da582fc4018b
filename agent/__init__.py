"""The agent: what runs on a device. One process supervises, a child of it executes models."""
