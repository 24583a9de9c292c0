"""Getting better: fitting networks on what search and solvers know."""
