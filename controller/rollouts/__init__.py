"""Rollouts: a deployment goes out in waves, and stops itself where devices do badly with it."""
