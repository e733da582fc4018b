"""`ctl`: thin commands that parse, call the controller and print. One module a group."""
