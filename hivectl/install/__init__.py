"""`hivectl install --systemd`: a hive as units of a server's systemd; `uninstall` takes it away again.

What lies in `units/`, `sysusers.conf` and `tmpfiles.conf` is the same wherever a systemd runs a hive.
"""
