"""Measurements that the documentation quotes; each is a script, and each table in the docs is written by one."""
