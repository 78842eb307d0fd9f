"""Methods: finding, describing and configuring them without importing their code."""
