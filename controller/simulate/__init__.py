"""Simulation: a trace of samples through both loops, on a clock that only the trace moves.

`trace` says what a trace is, `made` makes some, `recording` folds live telemetry into one. `loops`
holds the real governor and the real planner on one device, `replay` lets them live through a trace,
`chart` draws what came of it. Files and drawing programs are at the edge: `files`, `png`.
"""
