"""The functions of the top-level namespace, one file a family of the array API standard.

Each checks and promotes its arguments and applies one primitive, or composes a few.
"""
