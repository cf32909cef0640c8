"""Tables and figures of the papers, one file a paper."""

__all__: list[str] = []
