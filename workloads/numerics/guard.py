"""Refuses a machine on which the definitions would not give their bits."""


def check() -> None: ...
