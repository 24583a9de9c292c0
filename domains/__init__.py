"""What is decided: states, actions, rules, encodings and words. Knows neither torch nor LangGraph."""
