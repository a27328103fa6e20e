"""The journey in three browser engines; see ``__main__``."""
