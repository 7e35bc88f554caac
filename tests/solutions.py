"""The code in the solutions of exercises, and how to run it without the whole chapter.

A solution's code is its code cells, between `{solution-start}` and `{solution-end}`, and the ```python blocks in its Markdown.
It may use what its chapter has defined before; `script` finds the statements that it needs, by the names that they bind and read.
"""

import ast
import builtins
import re
import symtable
from typing import NamedTuple

OPENING = re.compile(r"(:{3,})\{solution(-start|-end)?\}(?: +([\w:-]+))?\s*$")


class Code(NamedTuple):
    label: str | None  # of the exercise that it solves; None for what the chapter itself says
    source: str


def program(notebook):
    """All code of a notebook in its order."""
    parts, label = [], None
    for cell in notebook.cells:
        if cell.cell_type == "code":
            parts.append(Code(label, cell.source))
            continue
        fence = block = None
        for line in cell.source.split("\n"):
            opening = OPENING.match(line)
            if block is not None:
                if line.rstrip() == "```":
                    parts.append(Code(label, "\n".join(block)))
                    block = None
                else:
                    block.append(line)
            elif label and line.rstrip() == "```python":
                block = []
            elif opening:
                fence = None if opening[2] else opening[1]
                label = None if opening[2] == "-end" else opening[3]
            elif fence and line.rstrip() == fence:
                fence = label = None
        if block is not None or fence:
            raise ValueError(f"a fence is not closed:\n{cell.source}")
    return parts


class Statement(NamedTuple):
    label: str | None
    source: str
    bound: set    # the names that it binds
    changed: set  # what it may change in place: x[0] = …, x.y = …, x.append(…), train(x)
    needed: set   # what it reads when it runs
    late: set     # what its functions read when they are called


def inner(table, at_once=()):
    """The globals that functions, classes and comprehensions within a scope read, but for those with a name in `at_once`."""
    found = set()
    for child in table.get_children():
        if child.get_name() not in at_once:
            found |= {s.get_name() for s in child.get_symbols() if s.is_global() and s.is_referenced()}
        found |= inner(child, at_once if child.get_name() in at_once else ())
    return found


def free(node, bound):
    """What an expression or a simple statement reads that is not bound before it."""
    table = symtable.symtable(ast.unparse(node), "<chapter>", "exec")
    return ({s.get_name() for s in table.get_symbols() if s.is_referenced()} | inner(table)) - bound


def read(tree, bound):
    """What a statement reads from outside when it runs, line by line; adds to `bound` what it binds."""
    if isinstance(tree, ast.FunctionDef | ast.ClassDef):
        arguments = getattr(tree, "args", None)
        at_once = [*tree.decorator_list, *getattr(tree, "bases", ())]
        at_once += [node for node in (*arguments.defaults, *arguments.kw_defaults) if node] if arguments else []
        found = set().union(*(free(node, bound) for node in at_once))
    elif isinstance(tree, ast.For | ast.While | ast.If | ast.With):
        items = getattr(tree, "items", ())
        heads = [*(getattr(tree, name) for name in ("iter", "test") if hasattr(tree, name)), *(item.context_expr for item in items)]
        found = set().union(*(free(node, bound) for node in heads))
        targets = [*([tree.target] if isinstance(tree, ast.For) else []), *(item.optional_vars for item in items if item.optional_vars)]
        bound |= {node.id for target in targets for node in ast.walk(target) if isinstance(node, ast.Name)}
        for line in [*tree.body, *getattr(tree, "orelse", ())]:
            found |= read(line, bound)
        return found
    else:
        found = free(tree, bound)
        if isinstance(tree, ast.AugAssign):
            found |= {root(tree.target)} - bound
    table = symtable.symtable(ast.unparse(tree), "<chapter>", "exec")
    bound |= {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()}
    return found


def statement(label, tree):
    source = ast.unparse(tree)
    table = symtable.symtable(source, "<chapter>", "exec")
    needed, bound = read(tree, now := set()), now
    changed = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store):
            changed.add(root(node))
        call = node.value if isinstance(node, ast.Expr) else node.iter if isinstance(node, ast.For) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and not hasattr(builtins, call.func.id):
            changed |= {root(argument) for argument in call.args}
        elif isinstance(call, ast.Call) and isinstance(node, ast.Expr) and isinstance(call.func, ast.Attribute):
            changed.add(root(call.func))
    return Statement(label, source, bound, changed - bound, needed, inner(table, COMPREHENSIONS) - bound)


COMPREHENSIONS = ("listcomp", "setcomp", "dictcomp", "genexpr")  # they read when the statement runs, and not later


def root(node):
    """The name at the root of x.y[0].z()."""
    while isinstance(node, ast.Subscript | ast.Attribute | ast.Call | ast.Starred):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else None


def statements(notebook):
    every = [statement(part.label, tree) for part in program(notebook) for tree in ast.parse(part.source).body]
    fixed = set().union(*(s.bound for s in every if s.source.startswith(FIXED)))
    return [s._replace(changed=s.changed - fixed) for s in every]


FIXED = ("import ", "from ", "def ", "class ", "@")  # modules, functions and classes are not changed by being called


SUBMODULES = ("from dpmlib.", "import dpmlib.")  # whoever imports one may use it as dpmlib.x ever after


def needed(every, label):
    """The numbers of the statements that the solution of an exercise consists of and depends on, in their order."""
    own = [i for i, s in enumerate(every) if s.label == label]
    chosen, before = set(own) | {i for i in range(own[-1]) if every[i].source.startswith(SUBMODULES)}, None
    while before != chosen:  # a function may read what is bound after it was defined
        before = set(chosen)
        want = set().union(*(every[i].late for i in chosen))
        for i in range(own[-1], -1, -1):
            s = every[i]
            if want & (s.bound | s.changed):
                chosen.add(i)
            if i in chosen:
                want = want - s.bound | s.needed
    return sorted(chosen)
