"""What a worker loads that has no submission: one that compiles again what another has told of."""


def nothing(): ...
