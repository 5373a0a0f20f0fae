"""Edits at hook points during a pass, many in one; patching between passes."""
