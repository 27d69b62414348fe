"""python -m workbook COMMAND. Any Python 3 can read this file, and says in one line what is missing."""

import signal
import sys


def end(number, _frame):
    """By way of SystemExit, so that the terminal is restored and the servers stop."""
    for other in (signal.SIGINT, signal.SIGTERM):  # a second signal must not interrupt that
        signal.signal(other, signal.SIG_IGN)
    print("\nstopped", file=sys.stderr)
    sys.exit(128 + number)


def main():
    if sys.version_info < (3, 10):  # noqa: UP036  pip is not asked where PYTHONPATH names the package
        sys.exit(f"Python 3.10 or newer is needed; {sys.executable} is {sys.version.split()[0]}")
    from workbook import doctor

    signal.signal(signal.SIGINT, end)
    signal.signal(signal.SIGTERM, end)
    problem = doctor.unsupported()
    if problem and sys.argv[1:2] != ["doctor"]:
        sys.exit(problem)
    try:
        from workbook import cli
    except ImportError as error:
        sys.exit(problem or f"{error.name} is not installed for {sys.executable}: {doctor.FIX}")
    cli.app(prog_name="workbook")


if __name__ == "__main__":
    main()
