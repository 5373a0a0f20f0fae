"""Interventions: other values at hook points, many forward passes as one."""
