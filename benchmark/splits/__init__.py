"""A task's splits in other toolkits' forms: files, torch, Hugging Face datasets, figures."""
