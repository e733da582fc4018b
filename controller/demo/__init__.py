"""`ctl demo`: the whole product on one machine, with agents that believe they are boards."""
