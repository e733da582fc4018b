"""The schedule compiler: what a device measured and what a person wants, turned into rows."""
