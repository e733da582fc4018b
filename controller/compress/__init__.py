"""The toolkit: one large model in, smaller ones out, with what each step costs measured.

Every transformation takes a model's bytes and gives a model's bytes; the original stays as it is.
`graph` takes a file apart and puts it together, `layers` says what its layers are, `judge` says how
good a model is on data.
"""
