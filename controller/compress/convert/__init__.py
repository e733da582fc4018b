"""From other frameworks' models to a `.tflite` file that answers as they do.

`conversion.convert` is the way in. `kinds` recognises a source; a child process (`process`) reads
it, runs it and has it converted, one module for each form: `torch_program`, `onnx_graph` (with
`onnx_operators`), `keras_model` and `saved_model`. What comes out runs in a process of its own, and
`comparison` holds its answers against those of the source.
"""
