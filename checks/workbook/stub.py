"""Solution -> stub: every BEGIN/END SOLUTION region, a blank, becomes one line that fails with the part's id."""

import ast
import re
import textwrap

REGION = re.compile(r"^([ ]*)### BEGIN SOLUTION\n(.*?)^\1### END SOLUTION\n", re.M | re.S)


def derive(source: str, part_id: str, only: int | None = None) -> str:
    """The stub of a solution's source; with `only`, just that blank is open and the others stay solved.

    Raises ValueError where the marks do not pair, and SyntaxError where the solution is not Python.
    """
    marks = len(re.findall(r"### (?:BEGIN|END) SOLUTION", source))
    if marks == 0 or marks != 2 * len(REGION.findall(source)):
        raise ValueError(f"{part_id}: '### BEGIN SOLUTION' and '### END SOLUTION' do not pair with equal indentation")
    kernels = kernel_lines(source)

    def blank(number, indent, line):
        todo = f'"TODO {part_id}, blank {number}"'
        if indent and line in kernels:
            return f"{indent}{kernels[line]}.static_assert(False, {todo})\n"
        return f"{indent}raise NotImplementedError({todo})\n"

    return _replace(source, lambda n, indent, body, line: body if only not in (None, n) else blank(n, indent, line))


def fill(source: str, blanks: dict[int, str]) -> str:
    """The solution with other text in some of its blanks, as a learner might have written it."""
    count = len(REGION.findall(source))
    if unknown := set(blanks) - set(range(1, count + 1)):
        raise ValueError(f"no blank {min(unknown)}; the solution has {count}")

    def other(number, indent, body, line):
        if number not in blanks:
            return body
        return textwrap.indent(textwrap.dedent(blanks[number]).strip("\n") + "\n", indent)

    return _replace(source, other)


def blanks(source: str) -> int:
    """How many blanks a solution has."""
    return len(REGION.findall(source))


def kernel_lines(source: str) -> dict[int, str]:
    """Lines inside kernels -> the language module there: `tl`, or `gl` in a Gluon kernel."""
    lines = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            decorators = " ".join(ast.unparse(d) for d in node.decorator_list)
            if "jit" in decorators:
                # one line more: the END mark may follow the last statement
                lines |= dict.fromkeys(range(node.lineno, node.end_lineno + 2), "gl" if "gluon" in decorators else "tl")
    return lines


def _replace(source, text_of):
    numbers = iter(range(1, 1000))

    def replace(match):
        line = source.count("\n", 0, match.start()) + 1
        return text_of(next(numbers), match[1], match[2], line)

    return REGION.sub(replace, source)
