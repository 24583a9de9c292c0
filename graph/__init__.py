"""The wiring of the decision graph."""
