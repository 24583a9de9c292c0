"""Looking ahead: batched trees, evaluators without a network, exact solvers. Knows neither torch nor LangGraph."""
