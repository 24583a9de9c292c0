"""The steps of a decision, one file a node; the graph's state and context types."""
