"""Hooked networks: hook points on any module, the papers' networks, everything read from one."""
