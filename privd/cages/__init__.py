"""Cages: what an agent lives in. Everything that touches processes, mounts, uids and control groups for it is here.

spec identity syscalls         values: what a cage is to be, whose uids, which system calls (pure)
backend                        what a kind of cage offers; nspawn and bwrap are the two kinds
skeleton folders control_groups journal     a cage's root, its folders, its limits, what it wrote
boot launch                    how it comes up, and the small program between privd and it
running processes              how it is watched, ended and adopted
probe                          what this machine can isolate
"""
