"""What ``python -m tracejit demo`` runs, and the handwritten digits it trains on, which come with the package so that
the demo needs no network.
"""
