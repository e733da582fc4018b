"""The whole product as a person uses it: real processes, a real broker, real models."""
