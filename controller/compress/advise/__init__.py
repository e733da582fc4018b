"""The guide: which technique for this model, and which together? Tried, measured, compared.

`target` reads what is wanted, `recipes` names what can be tried, `plan` says what is next in the
time that is left, `choice` finds the Pareto front and the form to take, `commands` writes down how
it is made again, `page` draws it. All of these are pure; `guide.advise` carries them out, each step
in a process (`work`) that is ended when its time is over.
"""
