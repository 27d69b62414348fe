"""Whether the work is done by the submission's own kernels: with their bodies emptied it has to come out wrong.

Edited as text, by the grader; a kernel that is made in a way not seen here keeps its body, and then the result stays
right and the check fails. The only sure defence is a human's eye: a submission could find out that its kernels are
empty, and then pretend to need them.
"""

import ast


def emptied(source: str) -> str:
    """The submission with `pass` for a body in every kernel. Raises SyntaxError where it is not Python."""
    tree = ast.parse(source)
    for node in kernels(tree):
        node.body = [ast.Pass()]
    return ast.unparse(tree)


def kernels(tree: ast.Module) -> list[ast.FunctionDef]:
    """The functions that are compiled for a GPU, helpers of kernels among them."""
    passed = {
        argument.id
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and _jit(call.func)
        for argument in call.args
        if isinstance(argument, ast.Name)
    }
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    return [node for node in functions if node.name in passed or any(map(_jit, node.decorator_list))]


def _jit(node: ast.expr) -> bool:
    """Whether an expression names Triton's or Gluon's jit, called or not."""
    if isinstance(node, ast.Call):
        node = node.func
    return (node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")) == "jit"
