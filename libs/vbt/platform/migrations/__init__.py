"""The steps that bring an older state up to the tables of ``vbt.platform.state``."""
