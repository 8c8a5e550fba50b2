"""What brokerd keeps: every table, its SQL, and the functions that run it inside `Store.write` and `Store.read`.

A function that changes something takes `(db, log, …)`: what it appends to the log is in the feed, in the same
transaction, or nowhere. One that only reads takes `(db, …)`.
"""
