"""python -m workbook COMMAND. Any Python 3 can read this file, and is told in one line what is missing."""

import signal
import sys


def main():
    if sys.version_info < (3, 10):
        sys.exit("Python 3.10 or newer is needed, this is %d.%d (%s)" % (*sys.version_info[:2], sys.executable))
    from workbook import doctor

    # by way of SystemExit, so that terminals are restored and servers stopped
    for number, word in ((signal.SIGINT, "stopped"), (signal.SIGTERM, "ended")):
        signal.signal(number, lambda n, _, word=word: (print("\n" + word, file=sys.stderr), sys.exit(128 + n)))
    problem = doctor.unsupported()
    if problem and sys.argv[1:2] != ["doctor"]:
        sys.exit(problem)
    try:
        from workbook import cli
    except ImportError as error:
        sys.exit(problem or "%s is missing for %s: %s" % (error.name, sys.executable, doctor.FIX))
    cli.app(prog_name="workbook")


if __name__ == "__main__":
    main()
