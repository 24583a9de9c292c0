"""Estimating: networks, bundles, calibration, the batcher. Knows no LangGraph."""
