"""What a worker loads that holds no submission: to compile again what another told of, or to do nothing in time."""


def nothing(): ...
